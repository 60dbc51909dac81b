// Package gguf reads and writes GGUF version 3, the format of llama.cpp and
// Ollama, exports Hugging Face folders and PEFT LoRA adapters to it, and imports
// models from it, quantized ones decoded.
//
// Nothing in a file is trusted: counts, lengths, offsets are checked against the
// file's size before anything is allocated. The package knows the names that
// llama.cpp gives to tensors and metadata, and nothing of training.
//
// Format: github.com/ggml-org/ggml, docs/gguf.md. Names and conversions:
// github.com/ggml-org/llama.cpp, gguf-py and convert_hf_to_gguf.py.
package gguf
