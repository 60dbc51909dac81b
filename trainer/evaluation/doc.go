// Package evaluation is the stage that measures the base model and the tuned
// one side by side on the held-out test split.
//
// Classification is scored by constrained labels, generation tasks by exact
// match and token F1, both by the loss on the completion. The package knows the
// samples and the engine; it does not know how they were made or trained.
package evaluation
