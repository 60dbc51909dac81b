package gguf

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

// modelUnigram is llama.cpp's name for vocabularies of the Unigram kind, whatever the
// architecture; T5 was the first with one.
const modelUnigram = "t5"

// tokenUndefined is a token that llama.cpp looks for nowhere.
const tokenUndefined int32 = 0

// spaceProbes are texts that show what is done to spaces, and some that show that nothing
// else is done to a text.
var spaceProbes = []string{"", " ", "a", " a", "a ", "  a  b  ", "the  mesh", "a\nb", "a\n", "\ta", "a\u00a0b", "\u3000a", "A Mesh", "1 2.5", "日本 語", "e\u0301", "\uff21\ufb01", "x\u200by", "``a''"}

// unigramMetadata is a Unigram vocabulary under llama.cpp's keys. llama.cpp normalizes by a
// precompiled charsmap, then either removes extra spaces and puts one before the text, or
// does neither of the two as SentencePiece does it (llm_tokenizer_ugm_session); what tok
// does is found by trying.
func unigramMetadata(tok *tokenizer.Tokenizer, tokens []string, types []int32) ([]KV, error) {
	if tok.ByteFallback() {
		return nil, errors.New("tokenizer.json: characters without a token are spelled in bytes, which llama.cpp does not do with a Unigram vocabulary")
	}
	unk, ok := tok.UnknownID()
	if !ok {
		return nil, errors.New("tokenizer.json: there is no unknown token, which llama.cpp needs with a Unigram vocabulary")
	}
	charsmap, err := charsmapOf(tok.Parts().Normalizer)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	v := vocabulary{unigram: true, tokens: tokens, types: types, scores: make([]float32, len(tokens)), charsmap: charsmap, bos: -1, eos: -1, unk: unk}
	for id, s := range tok.Scores() {
		v.scores[id] = float32(s)
	}
	v.types[unk] = tokenUnknown
	for id := range types {
		if v.filler(id) {
			types[id] = tokenUndefined // an unused one would be found in a text
		}
	}
	for _, both := range []bool{true, false} {
		v.spacePrefix, v.removeSpaces = both, both
		if err = v.same(tok); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	kvs := []KV{
		{"tokenizer.ggml.model", modelUnigram},
		{"tokenizer.ggml.pre", "default"},
		{"tokenizer.ggml.tokens", tokens},
		{"tokenizer.ggml.scores", v.scores},
		{"tokenizer.ggml.token_type", types},
		{"tokenizer.ggml.add_space_prefix", v.spacePrefix},
		{"tokenizer.ggml.remove_extra_whitespaces", v.removeSpaces},
	}
	if len(charsmap) > 0 {
		kvs = append(kvs, KV{"tokenizer.ggml.precompiled_charsmap", charsmap})
	}
	return kvs, nil
}

// same compares tok with the tokenizer that the vocabulary would be imported as.
func (v vocabulary) same(tok *tokenizer.Tokenizer) error {
	raw, err := v.tokenizerJSON()
	if err != nil {
		return err
	}
	exported, err := tokenizer.Parse(raw)
	if err != nil {
		return err
	}
	for _, text := range spaceProbes {
		if want, got := tok.Encode(text, false), exported.Encode(text, false); !slices.Equal(want, got) {
			return fmt.Errorf("the text %q has the ids %v, and would have %v in llama.cpp, which puts a space before a text and removes extra ones, or does neither", text, want, got)
		}
	}
	return nil
}

// charsmapOf gives the charsmap of a normalizer that has one, and refuses what llama.cpp has
// no way to do. What is done to spaces is the concern of same.
func charsmapOf(raw json.RawMessage) ([]byte, error) {
	if raw == nil {
		return nil, nil
	}
	var n struct {
		Type        string            `json:"type"`
		Normalizers []json.RawMessage `json:"normalizers"`
		Charsmap    []byte            `json:"precompiled_charsmap"`
		Pattern     struct {
			Regex  string `json:"Regex"`
			String string `json:"String"`
		} `json:"pattern"`
	}
	if err := json.Unmarshal(raw, &n); err != nil {
		return nil, err
	}
	switch n.Type {
	case "Precompiled":
		return n.Charsmap, nil
	case "Prepend", "Strip":
		return nil, nil
	case "Replace":
		if slices.Contains([]string{" ", " {2,}", `\A | \z`, spaceMark + `+\z`}, n.Pattern.Regex+n.Pattern.String) {
			return nil, nil
		}
	case "Sequence":
		var all []byte
		for _, sub := range n.Normalizers {
			charsmap, err := charsmapOf(sub)
			if err != nil {
				return nil, err
			}
			if len(all) > 0 && len(charsmap) > 0 {
				return nil, errors.New("the text is normalized twice, llama.cpp does so once")
			}
			all = append(all, charsmap...)
		}
		return all, nil
	}
	return nil, fmt.Errorf("the text is normalized by %s, which llama.cpp does not do with a Unigram vocabulary", n.Type)
}
