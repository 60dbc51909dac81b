// Package tokenizer turns text into token ids and back, from a Hugging Face
// tokenizer.json: byte-pair encoding or Unigram with their normalizers, pre-tokenizers, added
// tokens, post-processor and decoder.
//
// The ids have to be those of the original (github.com/huggingface/tokenizers):
// a model trained on other ids than it is served with is silently worse. The
// vectors in testdata were made with the original.
//
// The package knows nothing of chats, of losses or of models; what stands in
// tokenizer.json and nothing else. A component that it does not know is an error
// at Load, never a guess.
package tokenizer
