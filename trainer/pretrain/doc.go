// Package pretrain is the recipe of the bundled base model: it gathers text,
// learns a tokenizer, trains a small decoder from scratch with the engine
// `native` and writes it as a Hugging Face folder.
//
// The recipe is a pure function of its config, the Go release whose sources it
// reads and the tickets that are handed to it: the same inputs give the same
// bytes on the same kind of processor. It knows nothing of the demo's task: no
// label and no question that the demo asks is in its text.
package pretrain
