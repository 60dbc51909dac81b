// Package pii finds personal data in text by its form: e-mail addresses,
// telephone numbers, US social security numbers and payment card numbers.
//
// It errs on the side of leaving numbers alone that may be order or invoice
// numbers: a telephone number needs a country code, a leading zero with groups,
// or the North American 3-3-4 grouping; a card number its issuer's prefix and
// length and a right check digit. Names of persons need a model and are not found
// here. The package knows nothing of tables or stages.
package pii
