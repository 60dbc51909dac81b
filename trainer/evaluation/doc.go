// Package evaluation is the stage that measures the base model and the tuned
// one side by side on the held-out test split.
//
// Classification is scored by constrained labels: of all labels that one is
// predicted whose tokens, the end of the turn included, have the highest summed
// log-probability after the prompt. The sum is not divided by the number of
// tokens, since it is the probability that the model gives exactly this answer;
// the end of the turn keeps a label that begins another one from winning for
// being shorter. A sample behind whose prompt the longest label has no room is left out,
// as preprocessing leaves it out; no prompt is cut. Other tasks are scored by greedy answers: exact match and token F1
// (SQuAD), ROUGE-1, -2, -L and -Lsum as rouge_score computes them, without stemming
// and with it, and BLEU as sacrebleu does. All tasks have the loss on the true
// completion, in nats per token, as training has it.
//
// Every figure of both models stands side by side with an interval by the paired
// bootstrap, which says whether the difference may be chance. The samples that the
// tuned model does worst and best on are kept, a bounded number of them.
//
// What the reference implementations say is recorded in testdata by reference.py.
//
// The package knows the samples and the engine; it does not know how they were
// made or trained.
package evaluation
