// Package sample is what preprocessing hands to training and evaluation: one
// JSON line per example with its token ids and the ranges that carry loss, and
// the summary under the output key "preprocessing".
//
// It knows nothing of templates, tokenizers or models: token ids are numbers
// here, and whoever made them says in Summary with what.
package sample
