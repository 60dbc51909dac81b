// Package engine is what the training stage asks of whatever does the
// arithmetic: one update from these sequences, the loss of those, save, go on.
// The engines stand in packages of their own: native, in this binary, and peft,
// PyTorch in a process of its own.
//
// All that makes a training what it is - the order of the data, the learning
// rate of each step, when to evaluate and to save, events, artifacts - is
// decided once, above this line, so that a job means the same on every engine
// and a checkpoint of one is continued by another.
package engine
