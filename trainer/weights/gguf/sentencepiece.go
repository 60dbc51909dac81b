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

// isSentencePiece says whether tok is the BPE of SentencePiece as Llama 2 has it: a
// mark before the text and for every space, no cutting into words, bytes for what
// the vocabulary lacks.
func isSentencePiece(tok *tokenizer.Tokenizer) bool {
	if tok.ByteLevel() || !tok.ByteFallback() || tok.Parts().PreTokenizer != nil {
		return false
	}
	var n struct {
		Type        string `json:"type"`
		Normalizers []struct {
			Type    string `json:"type"`
			Prepend string `json:"prepend"`
			Content string `json:"content"`
			Pattern struct {
				String string `json:"String"`
			} `json:"pattern"`
		} `json:"normalizers"`
	}
	if json.Unmarshal(tok.Parts().Normalizer, &n) != nil || n.Type != "Sequence" || len(n.Normalizers) != 2 {
		return false
	}
	first, second := n.Normalizers[0], n.Normalizers[1]
	return first.Type == "Prepend" && first.Prepend == spaceMark &&
		second.Type == "Replace" && second.Pattern.String == " " && second.Content == spaceMark
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
		{"tokenizer.ggml.add_space_prefix", true},
	}, nil
}
