package gguf

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

// Types of tokens that only this kind of vocabulary has.
const (
	tokenUnknown int32 = 2
	tokenByte    int32 = 6
)

// spaceMark stands for the space in SentencePiece vocabularies.
const spaceMark = "▁"

// sentencePieceKind says whether tok is the BPE of SentencePiece, as Llama 2 and Gemma
// have it: a mark for every space, no cutting into words, bytes for what the
// vocabulary lacks; and whether it puts a mark before the text (Llama does).
func sentencePieceKind(tok *tokenizer.Tokenizer) (spacePrefix, ok bool) {
	if tok.Unigram() || tok.ByteLevel() || !tok.ByteFallback() || !cutsNothing(tok.Parts().PreTokenizer) {
		return false, false
	}
	type normalizer struct {
		Type    string `json:"type"`
		Prepend string `json:"prepend"`
		Content string `json:"content"`
		Pattern struct {
			String string `json:"String"`
		} `json:"pattern"`
	}
	var n struct {
		normalizer
		Normalizers []normalizer `json:"normalizers"`
	}
	if json.Unmarshal(tok.Parts().Normalizer, &n) != nil {
		return false, false
	}
	list := n.Normalizers
	if n.Type != "Sequence" {
		list = []normalizer{n.normalizer}
	}
	if len(list) > 0 && list[0].Type == "Prepend" && list[0].Prepend == spaceMark {
		spacePrefix, list = true, list[1:]
	}
	return spacePrefix, len(list) == 1 && list[0].Type == "Replace" && list[0].Pattern.String == " " && list[0].Content == spaceMark
}

// cutsNothing says whether a pre-tokenizer leaves the text whole: there is none, or
// Gemma's, which cuts after spaces when there are none any more.
func cutsNothing(raw json.RawMessage) bool {
	if raw == nil {
		return true
	}
	var p struct {
		Type     string `json:"type"`
		Behavior string `json:"behavior"`
		Invert   bool   `json:"invert"`
		Pattern  struct {
			String string `json:"String"`
		} `json:"pattern"`
	}
	return json.Unmarshal(raw, &p) == nil && p.Type == "Split" && p.Behavior == "MergedWithPrevious" && !p.Invert && p.Pattern.String == " "
}

// scores gives each token the number by which llama.cpp merges: it joins the
// neighbours whose whole has the highest score, whichever they are, where
// tokenizer.json joins the pair of the lowest rank. The two agree if every pair
// that makes a token is listed, and the pairs of one token stand together; that is
// so in files made from a SentencePiece model, and is checked here.
func scores(tok *tokenizer.Tokenizer, types []int32) ([]float32, error) {
	merges := tok.Merges()
	first, last := map[string]int{}, map[string]int{}
	listed := make(map[[2]string]bool, len(merges))
	for rank, m := range merges {
		whole := m[0] + m[1]
		if _, ok := first[whole]; !ok {
			first[whole] = rank
		} else if last[whole] != rank-1 {
			return nil, fmt.Errorf("tokenizer.json: the merges of %q do not stand together, which llama.cpp cannot express", whole)
		}
		last[whole] = rank
		listed[m] = true
	}
	tokens := tok.Vocab()
	known := make(map[string]bool, len(tokens))
	for id, t := range tokens {
		known[t] = types[id] == tokenNormal
	}
	out := make([]float32, len(types))
	for id, t := range tokens {
		if types[id] != tokenNormal {
			continue
		}
		for i := range t {
			if i > 0 && known[t[:i]] && known[t[i:]] && !listed[[2]string{t[:i], t[i:]}] {
				return nil, fmt.Errorf("tokenizer.json: no merge of %q and %q, which llama.cpp would make", t[:i], t[i:])
			}
		}
		rank, ok := first[t]
		if !ok {
			rank = len(merges) // a single character, which no merge makes
		}
		out[id] = -float32(rank)
	}
	return out, nil
}

// sentencePieceMetadata is the vocabulary under llama.cpp's keys. types come with
// the added tokens filled in.
func sentencePieceMetadata(tok *tokenizer.Tokenizer, tokens []string, types []int32) ([]KV, error) {
	spacePrefix, _ := sentencePieceKind(tok)
	if id, ok := tok.UnknownID(); ok {
		types[id] = tokenUnknown
	}
	bytes := 0
	for id, t := range tokens {
		if types[id] == tokenNormal && len(t) == 6 && strings.HasPrefix(t, "<0x") {
			types[id] = tokenByte
			bytes++
		}
		if !utf8.ValidString(t) {
			return nil, fmt.Errorf("tokenizer.json: token %d is no UTF-8", id)
		}
	}
	if bytes != 256 {
		return nil, fmt.Errorf("tokenizer.json: %d of the 256 byte tokens are there", bytes)
	}
	s, err := scores(tok, types)
	if err != nil {
		return nil, err
	}
	return []KV{
		{"tokenizer.ggml.model", "llama"},
		{"tokenizer.ggml.pre", "default"},
		{"tokenizer.ggml.tokens", tokens},
		{"tokenizer.ggml.scores", s},
		{"tokenizer.ggml.token_type", types},
		{"tokenizer.ggml.add_space_prefix", spacePrefix},
	}, nil
}
