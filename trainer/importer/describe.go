package importer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// describe reads the folder that was made, as a job will, and says what it is.
func describe(dir string, d *Description) error {
	raw, err := readSmall(filepath.Join(dir, configName))
	if err != nil {
		return err
	}
	config, err := model.ParseConfig(raw)
	if err != nil {
		return &UnsupportedError{err}
	}
	d.Architecture, d.Parameters, d.Context = config.Architectures[0], config.NumParams(), config.MaxPositions
	src, err := weights.Open(dir)
	if err != nil {
		return err
	}
	defer src.Close()
	var dtypes []string
	for _, spec := range config.Tensors() {
		info, ok := src.Info(spec.Name)
		if !ok || !slices.Equal(info.Shape, spec.Shape) {
			return fmt.Errorf("tensor %s was not imported as it should be: %+v", spec.Name, info)
		}
		if len(spec.Shape) > 1 && !slices.Contains(dtypes, info.DType) {
			dtypes = append(dtypes, info.DType)
		}
	}
	d.DType = strings.Join(dtypes, ", ")

	tok, err := tokenizer.Load(dir)
	if err != nil {
		return &UnsupportedError{err}
	}
	if n := tok.VocabSize(); n > config.VocabSize {
		return fmt.Errorf("the tokenizer has %d tokens, but the model's embedding %d rows", n, config.VocabSize)
	}
	kind := "byte-level BPE"
	if !tok.ByteLevel() {
		kind = "SentencePiece BPE"
	}
	if tok.Unigram() {
		kind = "SentencePiece Unigram"
	}
	d.Tokenizer = fmt.Sprintf("%s, %d tokens", kind, tok.VocabSize())
	if err := d.describeTemplate(dir); err != nil {
		return err
	}
	if err := gguf.Exportable(dir); err != nil {
		d.Warnings = append(d.Warnings, fmt.Sprintf("tuned models cannot be exported as GGUF: %v", errors.Unwrap(err)))
	}
	if d.License == "" {
		d.License, err = licence(dir)
	}
	return err
}

func (d *Description) describeTemplate(dir string) error {
	jinja, eos, err := template.Source(dir)
	if err != nil {
		return err
	}
	if eos == "" {
		d.Warnings = append(d.Warnings, "tokenizer_config.json names no eos_token: the templates alpaca and zephyr cannot be used")
	}
	if jinja == "" {
		d.Template = "none"
		d.Warnings = append(d.Warnings, "the model has no chat template: jobs use chatml unless their config names another")
		return nil
	}
	t, err := template.ForModel(dir)
	if err != nil {
		d.Template = template.OwnName
		d.Warnings = append(d.Warnings, fmt.Sprintf("%v", err))
		return nil
	}
	d.Template = t.Name()
	if !t.Ends() {
		d.Warnings = append(d.Warnings, "the model's chat template writes nothing behind an answer: a tuned model learns no end of it")
	}
	return nil
}

// licence is what the model card's header says, or that there is a text.
func licence(dir string) (string, error) {
	raw, err := readSmall(filepath.Join(dir, "README.md"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if head, ok := bytes.CutPrefix(bytes.TrimPrefix(raw, []byte("\ufeff")), []byte("---")); ok {
		lines := bufio.NewScanner(bytes.NewReader(head))
		lines.Scan() // the rest of the first ---
		name, other := "", ""
		for lines.Scan() && strings.TrimSpace(lines.Text()) != "---" {
			key, value, _ := strings.Cut(lines.Text(), ":")
			value = strings.Trim(strings.TrimSpace(value), `"'`)
			switch key {
			case "license":
				name = value
			case "license_name":
				other = value
			}
		}
		if name == "other" && other != "" {
			name = other
		}
		if name != "" {
			return name, nil
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if licenceName.MatchString(e.Name()) {
			return "see " + e.Name(), nil
		}
	}
	return "", nil
}
