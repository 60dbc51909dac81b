package template

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tokenizerConfig is what a template needs of tokenizer_config.json. A token is a
// string or an object with its content; chat_template a string or a list of named
// ones.
type tokenizerConfig struct {
	BOS          json.RawMessage `json:"bos_token"`
	EOS          json.RawMessage `json:"eos_token"`
	UNK          json.RawMessage `json:"unk_token"`
	PAD          json.RawMessage `json:"pad_token"`
	ChatTemplate json.RawMessage `json:"chat_template"`
}

// Auto is the name by which Open takes what the model says of itself.
const Auto = "auto"

// Open gives the template of that name for the model in the Hugging Face folder dir: a
// builtin one, OwnName for the model's own, or Auto (see ForModel).
func Open(dir, name string) (*Template, error) {
	switch name {
	case Auto, "":
		return ForModel(dir)
	case OwnName:
		jinja, c, err := read(dir)
		if err != nil {
			return nil, err
		}
		if jinja == "" {
			return nil, errors.New("the model has no chat template of its own")
		}
		return c.own(jinja)
	}
	_, c, err := read(dir)
	if err != nil {
		return nil, err
	}
	return ByName(name, tokenContent(c.EOS))
}

// ForModel gives the template of the Hugging Face folder dir: chatml if it has no
// chat_template; a builtin one whose Jinja is byte for byte the model's; else the model's
// own. One that would be trained otherwise than it is served (PrefixError), or that cannot be
// rendered here, is refused.
func ForModel(dir string) (*Template, error) {
	jinja, c, err := read(dir)
	if err != nil {
		return nil, err
	}
	eos := tokenContent(c.EOS)
	if jinja == "" {
		return ByName("chatml", eos)
	}
	for _, def := range builtins() {
		if def.jinja == jinja {
			return ByName(def.name, eos)
		}
	}
	return c.own(jinja)
}

func (c tokenizerConfig) own(source string) (*Template, error) {
	tokens := map[string]any{}
	for name, raw := range map[string]json.RawMessage{"bos_token": c.BOS, "eos_token": c.EOS, "unk_token": c.UNK, "pad_token": c.PAD} {
		if token := tokenContent(raw); token != "" {
			tokens[name] = token
		}
	}
	o, err := newOwn(source, tokens)
	if err != nil {
		return nil, fmt.Errorf("the model's chat template cannot be trained with: %w; name one of the builtin ones (%s) in the job's config to train with it instead",
			err, strings.Join(Names(), ", "))
	}
	return &Template{def: builtin{name: OwnName}, eos: tokenContent(c.EOS), own: o}, nil
}

// Source gives what the Hugging Face folder dir says of itself: the text of its
// chat_template, whatever it is, and its eos token; "" where it says nothing.
func Source(dir string) (jinja, eos string, err error) {
	jinja, c, err := read(dir)
	return jinja, tokenContent(c.EOS), err
}

func read(dir string) (jinja string, c tokenizerConfig, err error) {
	raw, err := readOptional(filepath.Join(dir, "tokenizer_config.json"))
	if err != nil {
		return "", c, fmt.Errorf("read the chat template: %w", err)
	}
	if raw != nil {
		if err := json.Unmarshal(raw, &c); err != nil {
			return "", c, fmt.Errorf("tokenizer_config.json: %w", err)
		}
	}
	// Newer folders keep the template in a file of its own, which goes first.
	file, err := readOptional(filepath.Join(dir, "chat_template.jinja"))
	if err != nil {
		return "", c, fmt.Errorf("read the chat template: %w", err)
	}
	if file != nil {
		return string(file), c, nil
	}
	if jinja, err = templateOf(c.ChatTemplate); err != nil {
		return "", c, fmt.Errorf("tokenizer_config.json: %w", err)
	}
	return jinja, c, nil
}

func readOptional(path string) ([]byte, error) {
	const limit = 16 << 20
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s is %d bytes, more than %d", path, st.Size(), limit)
	}
	return os.ReadFile(path)
}

func tokenContent(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var o struct {
		Content string `json:"content"`
	}
	_ = json.Unmarshal(raw, &o) // neither: the model names no token
	return o.Content
}

func templateOf(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s, nil
	}
	var named []struct {
		Name     string `json:"name"`
		Template string `json:"template"`
	}
	if err := json.Unmarshal(raw, &named); err != nil {
		return "", errors.New("chat_template is neither a text nor a list of named texts")
	}
	for _, n := range named {
		if n.Name == "default" {
			return n.Template, nil
		}
	}
	return "", errors.New("chat_template is a list without a default")
}
