package bpetrain

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/tunemesh/tunemesh/trainer/weights/atomicfile"
)

// JSON is the tokenizer.json: the vocabulary in the order of the ids, merges in
// the spelling that every version of the original reads ("a b").
func (r *Result) JSON() []byte {
	var vocab bytes.Buffer
	vocab.WriteByte('{')
	for id, token := range r.Tokens {
		if id > 0 {
			vocab.WriteByte(',')
		}
		fmt.Fprintf(&vocab, "%s:%d", quote(token), id)
	}
	vocab.WriteByte('}')
	merges := make([]string, len(r.Merges))
	for i, m := range r.Merges {
		merges[i] = m[0] + " " + m[1]
	}
	type added struct {
		ID         int    `json:"id"`
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		LStrip     bool   `json:"lstrip"`
		RStrip     bool   `json:"rstrip"`
		Normalized bool   `json:"normalized"`
		Special    bool   `json:"special"`
	}
	special := make([]added, len(r.Config.Special))
	for i, s := range r.Config.Special {
		special[i] = added{ID: i, Content: s, Special: true}
	}
	type byteLevel struct {
		Type           string `json:"type"`
		AddPrefixSpace bool   `json:"add_prefix_space"`
		TrimOffsets    bool   `json:"trim_offsets"`
		UseRegex       bool   `json:"use_regex"`
	}
	level := byteLevel{"ByteLevel", false, true, true}
	type model struct {
		Type                    string          `json:"type"`
		Dropout                 *float64        `json:"dropout"`
		UnkToken                *string         `json:"unk_token"`
		ContinuingSubwordPrefix *string         `json:"continuing_subword_prefix"`
		EndOfWordSuffix         *string         `json:"end_of_word_suffix"`
		FuseUnk                 bool            `json:"fuse_unk"`
		ByteFallback            bool            `json:"byte_fallback"`
		IgnoreMerges            bool            `json:"ignore_merges"`
		Vocab                   json.RawMessage `json:"vocab"`
		Merges                  []string        `json:"merges"`
	}
	file := struct {
		Version       string    `json:"version"`
		Truncation    *struct{} `json:"truncation"`
		Padding       *struct{} `json:"padding"`
		AddedTokens   []added   `json:"added_tokens"`
		Normalizer    *struct{} `json:"normalizer"`
		PreTokenizer  byteLevel `json:"pre_tokenizer"`
		PostProcessor *struct{} `json:"post_processor"`
		Decoder       byteLevel `json:"decoder"`
		Model         model     `json:"model"`
	}{
		Version: "1.0", AddedTokens: special, PreTokenizer: level, Decoder: level,
		Model: model{Type: "BPE", Vocab: vocab.Bytes(), Merges: merges},
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(file); err != nil {
		panic(err) // strings, numbers and a vocabulary that was written above
	}
	return out.Bytes()
}

func quote(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // a string always encodes
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// WriteFile writes tokenizer.json to path: whole and synced, or not at all.
func (r *Result) WriteFile(path string) error {
	f, err := atomicfile.Create(path)
	if err != nil {
		return fmt.Errorf("bpetrain: write: %w", err)
	}
	defer f.Abort()
	if _, err := f.Write(r.JSON()); err != nil {
		return fmt.Errorf("bpetrain: write %s: %w", path, err)
	}
	if err := f.Commit(); err != nil {
		return fmt.Errorf("bpetrain: write %s: %w", path, err)
	}
	return nil
}
