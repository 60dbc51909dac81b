// Package training is the stage that fine-tunes a base model, and the loop that
// it shares with the making of the bundled base model.
//
// The loop is a pure function of model, data, config and seed: what a step sees
// depends on its number alone, so that a run which was interrupted and went on
// from a checkpoint ends with the same bits as one that was not. The package
// knows the engine and the optimiser; it does not know how samples were made,
// nor where checkpoints are kept beyond their folder.
package training
