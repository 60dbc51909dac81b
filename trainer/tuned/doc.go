// Package tuned finds and opens the two models that a job compares: the base
// model and what training made of it, be it an adapter over the base model or a
// full set of weights.
//
// It knows the stage contract and the file layouts; it does not know what the
// models are opened for.
package tuned
