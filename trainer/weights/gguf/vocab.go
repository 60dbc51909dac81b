package gguf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

// Types of tokens (llama_token_type).
const (
	tokenNormal      int32 = 1
	tokenControl     int32 = 3
	tokenUserDefined int32 = 4
	tokenUnused      int32 = 5
)

// Patterns with which byte-level tokenizers cut text, as they stand in
// tokenizer.json, and llama.cpp's names for the same (llama-vocab.cpp).
const (
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// preTokenizer names the way in which tok cuts text, for tokenizer.ggml.pre.
// llama.cpp knows a fixed list; what is not in it is refused, because the ids would
// be others.
func preTokenizer(tok *tokenizer.Tokenizer) (string, error) {
	type part struct {
		Type             string          `json:"type"`
		Pretokenizers    json.RawMessage `json:"pretokenizers"`
		AddPrefixSpace   bool            `json:"add_prefix_space"`
		UseRegex         *bool           `json:"use_regex"`
		IndividualDigits bool            `json:"individual_digits"`
		Behavior         string          `json:"behavior"`
		Invert           bool            `json:"invert"`
		Pattern          struct {
			Regex string `json:"Regex"`
		} `json:"pattern"`
	}
	refuse := func(why string) (string, error) {
		return "", fmt.Errorf("tokenizer.json: %s, which llama.cpp has no name for", why)
	}
	var whole part
	raw := tok.Parts().PreTokenizer
	if bytes.Contains(tok.Parts().Normalizer, []byte(`"Precompiled"`)) {
		return "", errors.New("tokenizer.json: the text is normalized by a precompiled charsmap, which llama.cpp does with Unigram vocabularies only")
	}
	if !tok.ByteLevel() || raw == nil {
		return refuse("the vocabulary is not byte-level BPE")
	}
	if err := json.Unmarshal(raw, &whole); err != nil {
		return "", fmt.Errorf("tokenizer.json: %w", err)
	}
	parts := []part{whole}
	if whole.Type == "Sequence" {
		if err := json.Unmarshal(whole.Pretokenizers, &parts); err != nil {
			return "", fmt.Errorf("tokenizer.json: %w", err)
		}
	}
	normalizer := ""
	if n := tok.Parts().Normalizer; n != nil {
		var c struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(n, &c); err != nil {
			return "", fmt.Errorf("tokenizer.json: %w", err)
		}
		normalizer = c.Type
	}
	level := parts[len(parts)-1]
	if level.Type != "ByteLevel" || level.AddPrefixSpace {
		return refuse(fmt.Sprintf("the pre-tokenizer ends with %s (add_prefix_space %v)", level.Type, level.AddPrefixSpace))
	}
	regex := level.UseRegex == nil || *level.UseRegex
	name := ""
	switch {
	case len(parts) == 1 && regex && normalizer == "":
		name = "gpt-2"
	case len(parts) == 2 && regex && parts[0].Type == "Digits" && parts[0].IndividualDigits && normalizer == "":
		name = "smollm"
	case len(parts) == 2 && !regex && parts[0].Type == "Split" && parts[0].Behavior == "Isolated" && !parts[0].Invert:
		switch {
		case parts[0].Pattern.Regex == llama3Pattern && normalizer == "":
			name = "llama-bpe"
		case parts[0].Pattern.Regex == qwen2Pattern && (normalizer == "" || normalizer == "NFC"):
			name = "qwen2" // llama.cpp leaves NFC out; text is in it nearly always
		}
	}
	if name == "" {
		var compact bytes.Buffer
		if json.Compact(&compact, raw) != nil {
			compact.Write(raw)
		}
		return refuse(fmt.Sprintf("the text is normalized by %q and cut by %.300s", normalizer, compact.String()))
	}
	// llama.cpp ties this to the name.
	if tok.IgnoreMerges() != (name == "llama-bpe") {
		return refuse(fmt.Sprintf("ignore_merges is %v with the pre-tokenizer %s", tok.IgnoreMerges(), name))
	}
	return name, nil
}

// vocabMetadata is the tokenizer under llama.cpp's keys. Ids of the embedding beyond
// the tokenizer's are filled up.
func vocabMetadata(tok *tokenizer.Tokenizer, c modelConfig, eosToken, jinja string) ([]KV, error) {
	tokens := tok.Vocab()
	if len(tokens) > c.VocabSize {
		return nil, fmt.Errorf("the tokenizer has %d ids, the model %d", len(tokens), c.VocabSize)
	}
	types := make([]int32, c.VocabSize)
	for id := range types {
		if id >= len(tokens) {
			tokens = append(tokens, "")
		}
		types[id] = tokenNormal
		if tokens[id] == "" {
			tokens[id], types[id] = fmt.Sprintf("[PAD%d]", id), tokenUnused
		}
	}
	for _, a := range tok.AddedTokens() {
		types[a.ID] = tokenUserDefined
		if a.Special {
			types[a.ID] = tokenControl
		}
	}
	kind := byteLevelMetadata
	if _, ok := sentencePieceKind(tok); ok {
		kind = sentencePieceMetadata
	} else if tok.Unigram() {
		kind = unigramMetadata
	}
	kvs, err := kind(tok, tokens, types)
	if err != nil {
		return nil, err
	}
	special, err := specialMetadata(tok, c, eosToken)
	if err != nil {
		return nil, err
	}
	kvs = append(kvs, special...)
	if jinja != "" {
		kvs = append(kvs, KV{"tokenizer.chat_template", jinja})
	}
	return kvs, nil
}

func byteLevelMetadata(tok *tokenizer.Tokenizer, tokens []string, types []int32) ([]KV, error) {
	pre, err := preTokenizer(tok)
	if err != nil {
		return nil, err
	}
	merges := make([]string, len(tok.Merges()))
	for i, m := range tok.Merges() {
		merges[i] = m[0] + " " + m[1]
	}
	return []KV{
		{"tokenizer.ggml.model", "gpt2"},
		{"tokenizer.ggml.pre", pre},
		{"tokenizer.ggml.tokens", tokens},
		{"tokenizer.ggml.token_type", types},
		{"tokenizer.ggml.merges", merges},
	}, nil
}

// specialMetadata names the tokens with a part to play. What the tokenizer itself
// puts before and after a text is what a server has to put there.
func specialMetadata(tok *tokenizer.Tokenizer, c modelConfig, eosToken string) (kvs []KV, err error) {
	id := func(key string, id int32) { kvs = append(kvs, KV{"tokenizer.ggml." + key, uint32(id)}) }
	inRange := func(l idList) bool { return len(l) > 0 && l[0] >= 0 && int(l[0]) < c.VocabSize }

	prefix, suffix := tok.Prefix(), tok.Suffix()
	if len(prefix) > 1 || len(suffix) > 1 {
		return nil, fmt.Errorf("tokenizer.json: the post-processor adds %d tokens before and %d after a text; llama.cpp adds one at most", len(prefix), len(suffix))
	}
	bos := c.BOS
	if len(prefix) == 1 {
		bos = prefix
	}
	eos := c.EOS
	if n, ok := tok.TokenID(eosToken); ok && eosToken != "" {
		eos = idList{n}
	}
	if len(suffix) == 1 {
		eos = suffix
	}
	if inRange(bos) {
		id("bos_token_id", bos[0])
	}
	if inRange(eos) {
		id("eos_token_id", eos[0])
	}
	for _, end := range []string{"<|eot_id|>", "<|im_end|>"} {
		if n, ok := tok.TokenID(end); ok && !(inRange(eos) && eos[0] == n) {
			id("eot_token_id", n)
			break
		}
	}
	if n, ok := tok.UnknownID(); ok {
		id("unknown_token_id", n)
	}
	if inRange(c.Pad) {
		id("padding_token_id", c.Pad[0])
	}
	kvs = append(kvs, KV{"tokenizer.ggml.add_bos_token", len(prefix) == 1}, KV{"tokenizer.ggml.add_eos_token", len(suffix) == 1})
	return kvs, nil
}
