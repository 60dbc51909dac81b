package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// layout is how the merged model is written: its tensors, in order, and the number
// format of its matrices.
type layout struct {
	tensors []weights.TensorInfo
	bytes   int64
	dtype   string
}

// plan gives each tensor the format that it has in the folder dir.
func plan(dir string, cfg model.Config) (layout, error) {
	files, err := weights.Open(dir)
	if err != nil {
		return layout{}, tuned.Unusable(err)
	}
	defer files.Close()
	var l layout
	count := map[string]int{}
	for _, spec := range cfg.Tensors() {
		info, ok := files.Info(spec.Name)
		if !ok || dtypeName[info.DType] == "" {
			return layout{}, tuned.Unusable(fmt.Errorf("tensor %s is missing or has dtype %q; F32, F16 and BF16 are written", spec.Name, info.DType))
		}
		t := weights.TensorInfo{Name: spec.Name, DType: info.DType, Shape: spec.Shape}
		n, err := t.Bytes()
		if err != nil {
			return layout{}, tuned.Unusable(err)
		}
		l.tensors, l.bytes = append(l.tensors, t), l.bytes+n
		if count[t.DType] += spec.Len(); count[t.DType] > count[l.dtype] {
			l.dtype = t.DType
		}
	}
	return l, nil
}

// writeFiles writes what a model's folder holds beside the weights. What the base
// model says of itself is kept, but for the number format, the chat template that
// it was trained with and the tokens that end an answer.
func writeFiles(base, dir string, trained *template.Template, dtype string) error {
	config, err := readObject(filepath.Join(base, "config.json"))
	if err != nil {
		return err
	}
	config["torch_dtype"] = quote(dtypeName[dtype])
	if _, ok := config["dtype"]; ok { // transformers 5 spells it so
		config["dtype"] = quote(dtypeName[dtype])
	}
	delete(config, "_name_or_path")
	for _, name := range []string{tokenizer.FileName, "special_tokens_map.json", "added_tokens.json", "tokenizer.model", "vocab.json", "merges.txt"} {
		err := copyFile(filepath.Join(base, name), filepath.Join(dir, name))
		if err != nil && (name == tokenizer.FileName || !errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("export: %w", err)
		}
	}
	if err := copyLicense(base, dir); err != nil {
		return err
	}
	tokens, err := readObject(filepath.Join(base, "tokenizer_config.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	jinja, _, err := template.Source(base)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	var stop []string
	if trained != nil {
		jinja, stop = trained.Jinja(), trained.Stop()
	}
	if tokens == nil {
		tokens = map[string]json.RawMessage{"tokenizer_class": quote("PreTrainedTokenizerFast")}
	}
	if jinja != "" {
		tokens["chat_template"] = quote(jinja)
	}
	generation, err := generationConfig(base, stop)
	if err != nil {
		return err
	}
	for name, object := range map[string]map[string]json.RawMessage{"config.json": config, "tokenizer_config.json": tokens, "generation_config.json": generation} {
		if err := writeObject(filepath.Join(dir, name), object); err != nil {
			return err
		}
	}
	return nil
}

// generationConfig is the base model's, or one made of its config.json. The
// template's end of a turn ends an answer too.
func generationConfig(base string, stop []string) (map[string]json.RawMessage, error) {
	cfg, err := tuned.Config(base)
	if err != nil {
		return nil, err
	}
	g, err := readObject(filepath.Join(base, "generation_config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		g, err = map[string]json.RawMessage{}, nil
		if cfg.BOSTokenID != nil {
			g["bos_token_id"] = quote(*cfg.BOSTokenID)
		}
	}
	if err != nil {
		return nil, err
	}
	ends := cfg.EOSTokenIDs
	if raw, ok := g["eos_token_id"]; ok {
		if err := json.Unmarshal(raw, &ends); err != nil {
			return nil, fmt.Errorf("export: generation_config.json: eos_token_id: %w", err)
		}
	}
	tok, _, err := tuned.Tokenizer(base)
	if err != nil {
		return nil, err
	}
	ends = slices.Clone(ends)
	for _, text := range stop {
		if id, ok := tok.TokenID(text); ok && !slices.Contains(ends, int(id)) {
			ends = append(ends, int(id))
		}
	}
	if len(ends) > 0 {
		g["eos_token_id"] = quote(ends)
	}
	return g, nil
}

func readObject(path string) (map[string]json.RawMessage, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, fmt.Errorf("export: %s: %w", filepath.Base(path), err)
	}
	if object == nil {
		object = map[string]json.RawMessage{}
	}
	return object, nil
}

func writeObject(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("export: %s: %w", filepath.Base(path), err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// quote encodes what JSON always can.
func quote(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // a text, a number or a list of numbers
	}
	return data
}

// copyLicense copies the files that have to be passed on with a model.
func copyLicense(base, dir string) error {
	names, err := licenseFiles(base)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := copyFile(filepath.Join(base, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("export: licence: %w", err)
		}
	}
	return nil
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
