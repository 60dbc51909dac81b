package importer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tokenizer/sentencepiece"
)

// sentencePieceName is the tokenizer of older folders, which have no tokenizer.json.
const sentencePieceName = "tokenizer.model"

// tokenizerSettings are what tokenizer_config.json says beside a tokenizer.model.
type tokenizerSettings struct {
	AddBOS *bool `json:"add_bos_token"`
	AddEOS bool  `json:"add_eos_token"`
	Added  map[string]struct {
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		LStrip     bool   `json:"lstrip"`
		RStrip     bool   `json:"rstrip"`
		Normalized bool   `json:"normalized"`
		Special    bool   `json:"special"`
	} `json:"added_tokens_decoder"`
}

// convertTokenizer makes a tokenizer.json of a folder's tokenizer.model, if it has no
// tokenizer.json, and tokenizer_config.json if there is none, so that everything that is
// made of the model carries both.
func convertTokenizer(source, outDir string, d *Description) error {
	if _, err := os.Stat(filepath.Join(source, tokenizerName)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	raw, err := readSmall(filepath.Join(source, sentencePieceName))
	if err != nil {
		return err
	}
	m, err := sentencepiece.Read(raw)
	if err != nil {
		return &UnsupportedError{fmt.Errorf("%s: %w", sentencePieceName, err)}
	}
	var c tokenizerSettings
	config, err := readSmall(filepath.Join(source, tokenizerConfigName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := writeTokens(m, filepath.Join(outDir, tokenizerConfigName)); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(config, &c); err != nil {
			return fmt.Errorf("%s: %w", tokenizerConfigName, err)
		}
	}
	o := sentencepiece.Options{NoBOS: c.AddBOS != nil && !*c.AddBOS, AddEOS: c.AddEOS}
	for id, a := range c.Added {
		n, err := strconv.ParseInt(id, 10, 32)
		if err != nil {
			return fmt.Errorf("%s: added_tokens_decoder: %q is no id", tokenizerConfigName, id)
		}
		o.Added = append(o.Added, tokenizer.AddedToken{ID: int32(n), Content: a.Content, SingleWord: a.SingleWord, LStrip: a.LStrip, RStrip: a.RStrip, Normalized: a.Normalized, Special: a.Special})
	}
	if o.Added, err = addedTokens(filepath.Join(source, "added_tokens.json"), o.Added); err != nil {
		return err
	}
	file, err := m.TokenizerJSON(o)
	if err != nil {
		return &UnsupportedError{fmt.Errorf("%s: %w", sentencePieceName, err)}
	}
	if _, err := tokenizer.Parse(file); err != nil {
		return fmt.Errorf("%s: %w", sentencePieceName, err)
	}
	d.Notes = append(d.Notes, "tokenizer.json is made of tokenizer.model")
	return os.WriteFile(filepath.Join(outDir, tokenizerName), file, 0o644)
}

// addedTokens reads the list that still older folders have: contents with ids.
func addedTokens(path string, have []tokenizer.AddedToken) ([]tokenizer.AddedToken, error) {
	raw, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return have, nil
	}
	if err != nil {
		return nil, err
	}
	var list map[string]int32
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("added_tokens.json: %w", err)
	}
	known := map[int32]bool{}
	for _, a := range have {
		known[a.ID] = true
	}
	for content, id := range list {
		if !known[id] {
			have = append(have, tokenizer.AddedToken{ID: id, Content: content, Special: true})
		}
	}
	return have, nil
}

// writeTokens names the special tokens.
func writeTokens(m *sentencepiece.Model, path string) error {
	c := map[string]any{"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false, "add_bos_token": m.BOS >= 0, "add_eos_token": false}
	for name, id := range map[string]int32{"bos_token": m.BOS, "eos_token": m.EOS, "unk_token": m.Unk, "pad_token": m.Pad} {
		if id >= 0 {
			c[name] = m.Pieces[id].Text
		}
	}
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}
