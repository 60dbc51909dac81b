package importer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/tunemesh/tunemesh/trainer/jsonfault"
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

// tokenizerFiles is a folder's tokenizer as everything that is made of the model carries it.
type tokenizerFiles struct {
	tokenizer *tokenizer.Tokenizer
	json      []byte // tokenizer.json
	config    []byte // tokenizer_config.json, where the folder has none
	made      bool   // of tokenizer.model
}

func (t tokenizerFiles) write(dir string) error {
	err := os.WriteFile(filepath.Join(dir, tokenizerName), t.json, 0o644)
	if err == nil && t.config != nil {
		err = os.WriteFile(filepath.Join(dir, tokenizerConfigName), t.config, 0o644)
	}
	return err
}

// readTokenizer reads a folder's tokenizer.json, or makes one of its tokenizer.model.
func readTokenizer(dir string) (tokenizerFiles, error) {
	raw, err := readSmall(filepath.Join(dir, tokenizerName))
	if errors.Is(err, fs.ErrNotExist) {
		return convertTokenizer(dir)
	}
	if err != nil {
		return tokenizerFiles{}, err
	}
	t, err := tokenizer.Parse(raw)
	if err != nil {
		return tokenizerFiles{}, &UnsupportedError{fmt.Errorf("%s: %w", tokenizerName, err)}
	}
	return tokenizerFiles{tokenizer: t, json: raw}, nil
}

func convertTokenizer(dir string) (tokenizerFiles, error) {
	out := tokenizerFiles{made: true}
	raw, err := readSmall(filepath.Join(dir, sentencePieceName))
	if errors.Is(err, fs.ErrNotExist) {
		return out, fmt.Errorf("the folder has neither %s nor %s; fetch or copy the tokenizer too, from where the model is or from its base model", tokenizerName, sentencePieceName)
	}
	if err != nil {
		return out, err
	}
	m, err := sentencepiece.Read(raw)
	if err != nil {
		return out, &UnsupportedError{fmt.Errorf("%s: %w; fetch or copy it again, or choose another model", sentencePieceName, err)}
	}
	var c tokenizerSettings
	config, err := readSmall(filepath.Join(dir, tokenizerConfigName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if out.config, err = specialTokens(m); err != nil {
			return out, err
		}
	case err != nil:
		return out, err
	default:
		if err := json.Unmarshal(config, &c); err != nil {
			return out, fmt.Errorf("%s: %w", tokenizerConfigName, jsonfault.Explain(config, err))
		}
	}
	o := sentencepiece.Options{NoBOS: c.AddBOS != nil && !*c.AddBOS, AddEOS: c.AddEOS}
	for id, a := range c.Added {
		n, err := strconv.ParseInt(id, 10, 32)
		if err != nil {
			return out, fmt.Errorf("%s: added_tokens_decoder: %q is no id; correct the file or fetch it again", tokenizerConfigName, id)
		}
		o.Added = append(o.Added, tokenizer.AddedToken{ID: int32(n), Content: a.Content, SingleWord: a.SingleWord, LStrip: a.LStrip, RStrip: a.RStrip, Normalized: a.Normalized, Special: a.Special})
	}
	if o.Added, err = addedTokens(filepath.Join(dir, "added_tokens.json"), o.Added); err != nil {
		return out, err
	}
	if out.json, err = m.TokenizerJSON(o); err != nil {
		return out, &UnsupportedError{fmt.Errorf("%s: %w; fetch or copy it again, or choose another model", sentencePieceName, err)}
	}
	if out.tokenizer, err = tokenizer.Parse(out.json); err != nil {
		return out, fmt.Errorf("%s: %w", sentencePieceName, err)
	}
	return out, nil
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
		return nil, fmt.Errorf("added_tokens.json: %w", jsonfault.Explain(raw, err))
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

// specialTokens is a tokenizer_config.json that names them.
func specialTokens(m *sentencepiece.Model) ([]byte, error) {
	c := map[string]any{"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false, "add_bos_token": m.BOS >= 0, "add_eos_token": false}
	for name, id := range map[string]int32{"bos_token": m.BOS, "eos_token": m.EOS, "unk_token": m.Unk, "pad_token": m.Pad} {
		if id >= 0 {
			c[name] = m.Pieces[id].Text
		}
	}
	raw, err := json.MarshalIndent(c, "", "  ")
	return append(raw, '\n'), err
}
