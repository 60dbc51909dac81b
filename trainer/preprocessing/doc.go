// Package preprocessing is the stage that turns the source file into token
// sequences in three splits. It goes over the file twice: once to learn the labels,
// the duplicates and how many rows each class has, once to write.
//
// A row's split is decided by the hash of its input and the job's seed, in each
// class apart: the same file and seed give the same splits on every machine and
// with any number of cores, and rows with the same input are never on two sides.
//
// Between the passes it keeps about 70 bytes for each different row (16 of them
// the hash by which duplicates are known); nothing else grows with the file. The
// package knows nothing of training.
package preprocessing
