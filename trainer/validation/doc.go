// Package validation is the stage that judges whether the data are fit to train
// on: missing values, duplicates, labels that contradict each other, classes,
// lengths, personal data. What would make training pointless stops the job here,
// with row and column; what a person should know is a warning.
//
// Personal data are found by their form (package pii): e-mail addresses, telephone,
// social security and card numbers. Names of persons are not looked for yet: that
// needs a model for named entities.
//
// Duplicates cost memory: about 40 bytes for each different row, so 40 MB for a
// million. Nothing else grows with the file.
package validation
