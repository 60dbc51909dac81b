// Package export is the stage that turns what was trained into what others load:
// a merged model as Hugging Face lays it out, GGUF files, a picture of the
// training, a model card.
//
// The merged model keeps the number format of each of the base model's tensors, so
// that it is as large and as fast as the base model; the adapter alone, which stays
// an artifact of training, holds every bit. Beside it go GGUF files (F16, Q8_0 and
// Q4_K_M if the job says nothing), the adapter as GGUF, Modelfiles for Ollama.
//
// What is written is read again, by what it says of itself alone, and has to agree
// with what was trained before the stage succeeds: the logits of held-out prompts
// within the bounds of its number format, each row of its weights, its tokenizer, its
// chat template; the adapter's logits over the base model, its scale and its matrices. A node can name another program that reads the GGUF files too
// (contract.EnvExportJudge). No model is in memory as a whole at any time: weights are streamed
// and computed with block by block. The package knows the formats and the engine; it
// does not know where the files go.
package export
