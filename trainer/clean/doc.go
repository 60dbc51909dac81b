// Package clean brings text and labels into the form they are compared, counted
// and trained in, so that validation counts exactly the duplicates that
// preprocessing drops.
//
// It knows nothing of files, stages or tokens.
package clean
