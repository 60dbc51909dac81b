// Package tickets makes support tickets of an invented maker of smart lamps, from
// hand-written fragments: a labelled data set with the dirt that real files have,
// and unlabelled text of the same kind to pretrain a small model on.
//
// The same seed gives the same bytes, on every machine. Addresses and telephone
// numbers are of the ranges reserved for fiction (RFC 2606, 555-01xx). It knows
// nothing of the trainer.
package tickets
