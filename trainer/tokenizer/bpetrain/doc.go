// Package bpetrain learns a byte-level BPE vocabulary from a corpus and writes it
// as a Hugging Face tokenizer.json, in the manner of GPT-2: the pre-tokenizer is
// ByteLevel with its own regular expression, so that llama.cpp's pre-tokenizer
// "gpt-2" splits the same.
//
// The result depends on the corpus and the config only: ties are broken by fixed
// rules and no map's order is relied on. It makes the tokenizer of the small base
// model in the binary; it knows nothing of models.
package bpetrain
