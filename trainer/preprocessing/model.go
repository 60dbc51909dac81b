package preprocessing

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

// baseModel is what preprocessing needs of the model: how it reads text.
type baseModel struct {
	encoder  template.Encoder
	template *template.Template // nil for the task completion
	eos      string
	context  int // most tokens, 0: the model does not say
	sha256   string
	special  []string // tokens that may not come out of a user's text
}

// loadModel reads the model's folder among the stage's inputs.
func loadModel(in contract.Input, c contract.Config) (*baseModel, error) {
	dir, err := in.Dir(contract.ModelInputs, "")
	if err != nil {
		return nil, err
	}
	return readModel(dir, c)
}

func readModel(dir string, c contract.Config) (*baseModel, error) {
	unusable := func(err error) error {
		return &contract.Error{Class: contract.ClassUnsupported, Code: "UNUSABLE_MODEL", Message: err.Error(), Field: "model", Hint: "choose another base model, or give this one what is missing"}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		return nil, unusable(fmt.Errorf("the base model's tokenizer: %w", err))
	}
	tok, err := tokenizer.Parse(raw)
	if err != nil {
		return nil, unusable(fmt.Errorf("the base model's tokenizer: %w", err))
	}
	sum := sha256.Sum256(raw)
	m := &baseModel{encoder: tok, sha256: hex.EncodeToString(sum[:])}
	for _, t := range tok.AddedTokens() {
		if t.Special && len(t.Content) >= 3 {
			m.special = append(m.special, t.Content)
		}
	}
	var config struct {
		Context int `json:"max_position_embeddings"`
	}
	if err := readJSON(filepath.Join(dir, "config.json"), &config); err != nil {
		return nil, unusable(err)
	}
	m.context = config.Context
	if m.eos, err = eosToken(dir); err != nil {
		return nil, unusable(err)
	}
	switch {
	case c.Task == "completion":
	default:
		m.template, err = template.Open(dir, c.Template)
	}
	if err != nil {
		return nil, &contract.Error{Class: contract.ClassConfig, Code: "NO_TEMPLATE", Message: err.Error(), Field: "template", Hint: "for instance template=chatml; the builtin ones are " + strings.Join(template.Names(), ", ")}
	}
	return m, nil
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return nil
}

// eosToken is the model's end token as tokenizer_config.json has it: a text, or an
// object with it as content. "" if the model names none.
func eosToken(dir string) (string, error) {
	var c struct {
		EOS json.RawMessage `json:"eos_token"`
	}
	if err := readJSON(filepath.Join(dir, "tokenizer_config.json"), &c); err != nil {
		return "", err
	}
	var text string
	if json.Unmarshal(c.EOS, &text) == nil {
		return text, nil
	}
	var token struct {
		Content string `json:"content"`
	}
	_ = json.Unmarshal(c.EOS, &token) // absent or null: none
	return token.Content, nil
}

// maxNested bounds the search for tokens that come to light when others are broken.
const maxNested = 8

// defuse takes the force out of special tokens in a user's text, so that a text
// cannot end its turn and speak as the assistant: a space goes in behind the first
// character.
func (m *baseModel) defuse(text string) (string, bool) {
	found := false
	for range maxNested {
		again := false
		for _, s := range m.special {
			if strings.Contains(text, s) {
				_, first := utf8.DecodeRuneInString(s)
				text = strings.ReplaceAll(text, s, s[:first]+" "+s[first:])
				found, again = true, true
			}
		}
		if !again {
			break
		}
	}
	return text, found
}
