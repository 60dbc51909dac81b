package gguf

import (
	"errors"
	"fmt"
	"math"

	"github.com/tunemesh/tunemesh/trainer/tokenizer/sentencepiece"
)

// unigramSettings reads what a Unigram vocabulary has beside its pieces.
func (m metadata) unigramSettings(v *vocabulary) error {
	v.removeSpaces = m.boolean("tokenizer.ggml.remove_extra_whitespaces", false)
	if m.boolean("tokenizer.ggml.treat_whitespace_as_suffix", false) {
		return errors.New("the vocabulary marks spaces behind words, which is not imported")
	}
	if v.removeSpaces && !v.spacePrefix {
		return errors.New("the vocabulary removes extra spaces and has none before a text, which llama.cpp does otherwise than SentencePiece")
	}
	switch c, _ := m.f.Value("tokenizer.ggml.precompiled_charsmap"); c := c.(type) {
	case nil:
	case []uint8:
		v.charsmap = c
	case []int8:
		v.charsmap = make([]byte, len(c))
		for i, b := range c {
			v.charsmap[i] = byte(b)
		}
	default:
		return fmt.Errorf("tokenizer.ggml.precompiled_charsmap is %T instead of bytes", c)
	}
	return nil
}

// unigramJSON is the tokenizer.json of a Unigram vocabulary: that of the tokenizer.model from
// which it was made. The types of the tokens are the kinds of the pieces.
func (v vocabulary) unigramJSON() ([]byte, error) {
	n := len(v.tokens)
	for n > 0 && v.filler(n-1) {
		n--
	}
	lowest := float32(0)
	for id, s := range v.scores[:n] {
		if f := float64(s); math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("token %d has no finite score", id)
		}
		if v.types[id] == tokenNormal {
			lowest = min(lowest, s)
		}
	}
	m := sentencepiece.Model{
		Pieces: make([]sentencepiece.Piece, n), Unigram: true, DummyPrefix: v.spacePrefix, RemoveSpaces: v.removeSpaces, Charsmap: v.charsmap,
		Unk: v.unk, BOS: -1, EOS: -1, Pad: -1,
	}
	for id := range m.Pieces {
		m.Pieces[id] = sentencepiece.Piece{Text: v.tokens[id], Score: v.scores[id], Kind: sentencepiece.Kind(v.types[id])}
		if v.filler(id) {
			m.Pieces[id].Score = lowest
		}
	}
	if v.addBOS && v.bos < int32(n) {
		m.BOS = v.bos
	}
	if v.eos < int32(n) {
		m.EOS = v.eos
	}
	return m.TokenizerJSON(sentencepiece.Options{AddEOS: v.addEOS})
}
