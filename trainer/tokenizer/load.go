package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/jsonfault"
)

const (
	// FileName is the file that Load looks for in a folder.
	FileName = "tokenizer.json"

	maxFileBytes = 256 << 20
	// maxID bounds the ids: tables are as long as the highest one. The largest
	// vocabularies in use have some 260,000.
	maxID = 1 << 22
)

// Load reads a tokenizer.json, or the one in the folder path.
func Load(path string) (*Tokenizer, error) {
	st, err := os.Stat(path)
	if err == nil && st.IsDir() {
		path = filepath.Join(path, FileName)
		st, err = os.Stat(path)
	}
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	if st.Size() > maxFileBytes {
		return nil, fmt.Errorf("tokenizer: %s is %d bytes, more than %d", path, st.Size(), maxFileBytes)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	t, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

type fileConfig struct {
	AddedTokens   []AddedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         json.RawMessage `json:"model"`
}

type modelConfig struct {
	UnkToken                *string           `json:"unk_token"`
	ContinuingSubwordPrefix *string           `json:"continuing_subword_prefix"`
	EndOfWordSuffix         *string           `json:"end_of_word_suffix"`
	FuseUnk                 bool              `json:"fuse_unk"`
	ByteFallback            bool              `json:"byte_fallback"`
	IgnoreMerges            bool              `json:"ignore_merges"`
	Vocab                   map[string]int32  `json:"vocab"`
	Merges                  []json.RawMessage `json:"merges"`
}

// Parse reads the bytes of a tokenizer.json.
func Parse(data []byte) (*Tokenizer, error) {
	t, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return t, nil
}

func parse(data []byte) (*Tokenizer, error) {
	var c fileConfig
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, jsonfault.Explain(data, err)
	}
	t := &Tokenizer{}
	var err error
	if t.model, t.unigram, err = parseModel(c.Model); err != nil {
		return nil, err
	}
	if t.normalizer, err = parseNormalizer(c.Normalizer); err != nil {
		return nil, err
	}
	if t.pretokenizer, err = parsePretokenizer(c.PreTokenizer); err != nil {
		return nil, err
	}
	if t.prefix, t.suffix, err = parsePost(c.PostProcessor); err != nil {
		return nil, err
	}
	if t.decoder, err = parseDecoder(c.Decoder); err != nil {
		return nil, err
	}
	t.size = len(t.model.tokens)
	for _, a := range c.AddedTokens {
		if a.ID < 0 || a.ID >= maxID {
			return nil, fmt.Errorf("added token %q has id %d, outside 0..%d", a.Content, a.ID, maxID-1)
		}
		if have, ok := t.model.token(a.ID); ok && have != a.Content {
			return nil, fmt.Errorf("added token %q has the id %d of token %q", a.Content, a.ID, have)
		}
		t.size = max(t.size, int(a.ID)+1)
	}
	t.added = newAddedVocab(c.AddedTokens, t.normalizer)
	for _, id := range append(t.Prefix(), t.suffix...) {
		if _, ok := t.Token(id); !ok {
			return nil, fmt.Errorf("post-processor: no token has the id %d", id)
		}
	}
	if t.cut, t.cutDigits = byteLevelCutter(c.PreTokenizer); t.cut != nil {
		t.seen = newWordCache()
	}
	if t.unigram == nil && t.cut == nil {
		t.marks = t.model.marks()
	}
	t.border = borderOf(t.normalizer)
	t.parts = Parts{notNull(c.Normalizer), notNull(c.PreTokenizer)}
	t.byteLevel = usesByteLevel(c.PreTokenizer) || usesByteLevel(c.Normalizer)
	return t, nil
}

// parseModel gives the model, and for Unigram that too: the bpe is its vocabulary then.
func parseModel(raw json.RawMessage) (*bpe, *unigram, error) {
	if isNull(raw) {
		return nil, nil, errors.New("the file has no model")
	}
	var kind struct { // first, because other models have vocabularies of other shapes
		Type   string          `json:"type"`
		Merges json.RawMessage `json:"merges"`
	}
	if err := readPart(raw, &kind); err != nil {
		return nil, nil, fmt.Errorf("model: %w", err)
	}
	if kind.Type == "Unigram" {
		u, err := parseUnigram(raw)
		if err != nil {
			return nil, nil, fmt.Errorf("model: %w", err)
		}
		return u.words, u, nil
	}
	if kind.Type != "BPE" && (kind.Type != "" || isNull(kind.Merges)) { // old files name no type
		return nil, nil, unsupported("model", kind.Type)
	}
	var c modelConfig
	if err := readPart(raw, &c); err != nil {
		return nil, nil, fmt.Errorf("model: %w", err)
	}
	if len(c.Vocab) == 0 {
		return nil, nil, errors.New("model: the vocabulary is empty")
	}
	merges := make([][2]string, len(c.Merges))
	for i, raw := range c.Merges {
		var err error
		if merges[i], err = parseMerge(raw); err != nil {
			return nil, nil, fmt.Errorf("model: merge %d: %w", i, err)
		}
	}
	m, err := newBPE(c.Vocab, merges, orEmpty(c.ContinuingSubwordPrefix))
	if err != nil {
		return nil, nil, fmt.Errorf("model: %w", err)
	}
	m.suffix = orEmpty(c.EndOfWordSuffix)
	m.fuseUnk, m.byteFallback, m.ignoreMerges = c.FuseUnk, c.ByteFallback, c.IgnoreMerges
	if c.UnkToken != nil {
		if m.unk, m.hasUnk = c.Vocab[*c.UnkToken]; !m.hasUnk {
			return nil, nil, fmt.Errorf("model: unk_token %q is not in the vocabulary", *c.UnkToken)
		}
	}
	return m, nil, nil
}

// parseMerge reads both spellings: "a b" and, since version 0.20 of the original,
// ["a", "b"], which allows spaces in tokens.
func parseMerge(raw json.RawMessage) ([2]string, error) {
	if len(raw) > 0 && raw[0] == '[' {
		var p []string
		if err := json.Unmarshal(raw, &p); err != nil || len(p) != 2 {
			return [2]string{}, fmt.Errorf("%.80s is not a pair of strings", raw)
		}
		return [2]string{p[0], p[1]}, nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return [2]string{}, err
	}
	left, right, ok := strings.Cut(s, " ")
	if !ok || strings.Contains(right, " ") {
		return [2]string{}, fmt.Errorf("%q is not two tokens with a space between", s)
	}
	return [2]string{left, right}, nil
}

// usesByteLevel looks for a ByteLevel component, also within a Sequence.
func usesByteLevel(raw json.RawMessage) bool {
	var c struct {
		Type          string            `json:"type"`
		Pretokenizers []json.RawMessage `json:"pretokenizers"`
		Normalizers   []json.RawMessage `json:"normalizers"`
	}
	if isNull(raw) || json.Unmarshal(raw, &c) != nil {
		return false
	}
	if c.Type == "ByteLevel" {
		return true
	}
	for _, sub := range append(c.Pretokenizers, c.Normalizers...) {
		if usesByteLevel(sub) {
			return true
		}
	}
	return false
}

// readPart reads a part of the file.
func readPart(raw json.RawMessage, into any) error {
	return jsonfault.Explain(nil, json.Unmarshal(raw, into))
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func notNull(raw json.RawMessage) json.RawMessage {
	if isNull(raw) {
		return nil
	}
	return raw
}

func isTrue(b *bool, byDefault bool) bool {
	if b == nil {
		return byDefault
	}
	return *b
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func unsupported(kind, name string) error {
	return fmt.Errorf("%s %q is not supported; choose another model", kind, name)
}
