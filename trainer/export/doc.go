// Package export is the stage that turns a trained adapter into what others
// load: a merged model as Hugging Face lays it out, GGUF files, a picture of the
// training, a model card.
//
// What it writes is read again and compared with what was trained before the
// stage succeeds. The package knows the formats and the engine; it does not know
// where the files go.
package export
