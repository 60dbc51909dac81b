// Package model is the CPU engine `native`: decoders of the families Llama,
// Mistral, Qwen2, Qwen3 and Gemma 3 (text) with LoRA adapters, their forward pass and hand-written backward pass, scoring and
// greedy generation.
//
// It knows shapes and arithmetic. It knows no files (weights come through
// Source), no text (tokens are numbers), no datasets and no optimiser: callers
// read Params, divide the gradients by the number of targets and update Data in
// place. Every reduction runs in a fixed order, whatever the number of
// processors, so that equal inputs give equal bits.
package model
