// Package importer brings a model from outside into the form that the mesh keeps: a
// folder with config.json, one model.safetensors, tokenizer.json and
// tokenizer_config.json, from a Hugging Face folder or from a GGUF file.
//
// What the engines would not compute exactly, a tensor that is missing or of another
// shape, or a tokenizer that is not understood is refused here, by name, and not in
// the first job an hour later. What works but not as one may expect is a warning.
//
// The package knows files. It knows nothing of a mesh, of names of models or of where
// the folder goes.
package importer
