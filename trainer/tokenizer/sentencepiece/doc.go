// Package sentencepiece reads a tokenizer.model of Google's SentencePiece and writes it as
// a tokenizer.json that gives the same ids, which is what everything behind an import reads
// and what exports carry.
//
// Source of the format: sentencepiece_model.proto; of what the parts mean: normalizer.cc,
// bpe_model.cc and unigram_model.cc of github.com/google/sentencepiece; of the tokenizer.json:
// convert_slow_tokenizer.py of transformers.
//
// The package knows no model and no folder beyond the bytes it is given.
package sentencepiece
