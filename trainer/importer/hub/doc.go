// Package hub fetches a model from a Hugging Face hub, or from another server that speaks
// its protocol: the list of a revision's files, and the files with resumption and checksums.
//
// Source of the protocol: huggingface_hub, hf_api.py and file_download.py.
//
// The package knows nothing of what is in the files beyond their names, nor of a mesh.
package hub
