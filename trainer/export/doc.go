// Package export is the stage that turns what was trained into what others load:
// a merged model as Hugging Face lays it out, GGUF files, a picture of the
// training, a model card.
//
// The merged model keeps the number format of each of the base model's tensors, so
// that it is as large and as fast as the base model; the adapter alone, which stays
// an artifact of training, holds every bit. What is written is read again and
// compared with what was trained before the stage succeeds. The package knows the
// formats and the engine; it does not know where the files go.
package export
