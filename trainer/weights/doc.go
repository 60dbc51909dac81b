// Package weights reads and writes model weights on disk: safetensors, in one
// file or in shards, and the conversions between the stored number formats and
// float32.
//
// A File is memory-mapped: opening a model of many gigabytes costs its header,
// and a tensor's bytes are paged in when they are first touched. Nothing in a
// header is trusted; every offset is checked against the size of the file before
// a slice is made.
//
// The package knows nothing of architectures, of layers or of what a tensor's
// name means. GGUF, the other format, is in the package gguf below it.
//
// Format: https://github.com/huggingface/safetensors (README, "Format").
package weights
