// Package optim holds what turns gradients into new weights: AdamW, clipping by
// the global norm, and learning-rate schedules with warm-up.
//
// It knows flat float32 slices with names and nothing of models, datasets or
// files. All arithmetic runs in a fixed order, so that the same gradients give
// the same weights bit for bit, and State/Restore carry the whole optimiser
// state, so that a run resumed from a checkpoint equals one never interrupted.
package optim
