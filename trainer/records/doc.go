// Package records reads the source file as cleaned examples: input, target,
// hashes, personal data found. Validation counts them and preprocessing writes
// them, so both see the same.
//
// It knows the columns' roles from the dataset stage; it knows nothing of tokens.
package records
