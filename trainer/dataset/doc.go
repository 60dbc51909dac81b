// Package dataset is the stage that reads the source file once, from end to end,
// and says what it is: format, hash, rows, columns, and which of them are the
// input and the target of the job's task. Everything that makes a file unreadable
// comes to light here, with row and column.
//
// It judges the file's form; whether its content is fit to train on is the
// validation stage's question. It knows nothing of tokens or models.
package dataset
