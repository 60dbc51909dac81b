// Package watch looks at the figures of a training, step by step, and says when
// something is wrong with them: a loss that is no number, that explodes or that
// does not move, steps that have become slow. It compares with medians of what
// the training itself did before, so that it needs no limits for a model or a
// machine, and one odd step raises nothing.
//
// It is pure; its state is part of a checkpoint. It must not know what a training
// is, nor what is done about an alarm.
package watch
