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
	EOS          json.RawMessage `json:"eos_token"`
	ChatTemplate json.RawMessage `json:"chat_template"`
}

// ForModel gives the template of the Hugging Face folder dir: chatml if it has no
// chat_template; a chat_template that is byte for byte the Jinja of a builtin is
// that builtin; any other is refused, because to train on a guess of it would teach
// the model another format than the one it is served with.
func ForModel(dir string) (*Template, error) {
	jinja, eos, err := Source(dir)
	if err != nil {
		return nil, err
	}
	if jinja == "" {
		return ByName("chatml", eos)
	}
	for _, def := range builtins() {
		if def.jinja == jinja {
			return ByName(def.name, eos)
		}
	}
	return nil, fmt.Errorf("template: %s: its chat_template is none of the builtin ones (%s): name one of them in the job's config to train with it instead",
		dir, strings.Join(Names(), ", "))
}

// Source gives what the Hugging Face folder dir says of itself: the text of its
// chat_template, whatever it is, and its eos token; "" where it says nothing.
func Source(dir string) (jinja, eos string, err error) {
	var c tokenizerConfig
	raw, err := readOptional(filepath.Join(dir, "tokenizer_config.json"))
	if err != nil {
		return "", "", fmt.Errorf("template: %w", err)
	}
	if raw != nil {
		if err := json.Unmarshal(raw, &c); err != nil {
			return "", "", fmt.Errorf("template: %s: tokenizer_config.json: %w", dir, err)
		}
	}
	eos = tokenContent(c.EOS)
	// Newer folders keep the template in a file of its own, which goes first.
	file, err := readOptional(filepath.Join(dir, "chat_template.jinja"))
	if err != nil {
		return "", "", fmt.Errorf("template: %w", err)
	}
	if file != nil {
		return string(file), eos, nil
	}
	if jinja, err = templateOf(c.ChatTemplate); err != nil {
		return "", "", fmt.Errorf("template: %s: tokenizer_config.json: %w", dir, err)
	}
	return jinja, eos, nil
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
