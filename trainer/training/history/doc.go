// Package history is the record of a training: its losses by step and its
// evaluations, as training_log.json holds them. Training writes it, export
// draws and cites it; it knows neither.
package history
