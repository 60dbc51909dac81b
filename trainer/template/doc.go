// Package template renders conversations as text for a model, in pieces of which
// each says whether training shall learn it.
//
// A builtin template comes in three spellings that mean the same: the Go here, the Jinja
// of a Hugging Face tokenizer_config.json and the Go template of an Ollama
// Modelfile. A model's own template is its Jinja, rendered by the room jinja; what of it is
// learned is found by rendering the conversation up to each answer.
//
// The package knows nothing of tokenizers beyond an Encode method, and nothing of datasets.
package template
