// Package evaluation is the stage that measures the base model and the tuned
// one side by side on the held-out test split.
//
// Classification is scored by constrained labels: of all labels that one is
// predicted whose tokens, the end of the turn included, have the highest summed
// log-probability after the prompt. The sum is not divided by the number of
// tokens, since it is the probability that the model gives exactly this answer;
// the end of the turn keeps a label that begins another one from winning for
// being shorter. Other tasks are scored by exact match, token F1 and ROUGE-L of
// greedy answers. All tasks have the loss on the true completion, in nats per
// token, as training has it.
//
// The package knows the samples and the engine; it does not know how they were
// made or trained.
package evaluation
