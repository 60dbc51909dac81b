// Package ollama finds a model in the store of an Ollama on this machine.
//
// Source of the layout: ollama, types/model/name.go, manifest and server/modelpath.go: a manifest
// per name and tag lists layers, which lie in blobs under their SHA-256.
//
// The package knows nothing of what is in the GGUF file, nor of a mesh.
package ollama
