package bpetrain

import (
	"context"
	"errors"
	"iter"
)

// Config of a training.
type Config struct {
	VocabSize     int      // ids in all: special tokens, 256 bytes, merges. Default 4096
	MinFrequency  int      // a pair that occurs less often is not merged. Default 2
	MaxTokenBytes int      // a longer token is not made. Default 16
	Special       []string // ids 0, 1, 2, ... Default <|endoftext|>, <|im_start|>, <|im_end|>
}

// Result is a trained tokenizer.
type Result struct {
	Tokens []string    // by id, in the printable byte form
	Merges [][2]string // by rank
	Config Config
}

// Train learns from documents.
func Train(ctx context.Context, docs iter.Seq[string], cfg Config) (*Result, error) {
	return nil, errors.New("bpetrain: not built yet")
}

// JSON is the tokenizer.json.
func (r *Result) JSON() []byte { return nil }

// WriteFile writes tokenizer.json to path, atomically.
func (r *Result) WriteFile(path string) error { return errors.New("bpetrain: not built yet") }
