package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// Files beside the weights. Tokenizers reach 20 MB, the rest is text.
const (
	configName          = "config.json"
	tokenizerName       = "tokenizer.json"
	tokenizerConfigName = "tokenizer_config.json"
	maxSmallBytes       = 256 << 20
)

var optionalNames = []string{"generation_config.json", "special_tokens_map.json", tokenizerConfigName, "chat_template.jinja", "README.md"}

// licenceName matches the files in which a licence obliges whoever passes a model on
// to keep its text.
var licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|notice|use_policy)[A-Za-z0-9_-]*(\.(md|txt|pdf))?$`)

func importFolder(ctx context.Context, source, outDir string, opts Options, d *Description) error {
	raw, err := readSmall(filepath.Join(source, configName))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the folder has no %s: it is no Hugging Face model", configName)
	}
	if err != nil {
		return err
	}
	config, err := model.ParseConfig(raw)
	if err != nil {
		return &UnsupportedError{err}
	}
	if err := needed(source); err != nil {
		return err
	}
	src, err := weights.Open(source)
	if err != nil {
		return err
	}
	defer src.Close()
	infos, err := check(config, src, d)
	if err != nil {
		return err
	}
	names := append([]string{configName, tokenizerName}, optionalNames...)
	entries, err := os.ReadDir(source)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if licenceName.MatchString(e.Name()) && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	for _, name := range names {
		data, err := readSmall(filepath.Join(source, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(outDir, name), data, 0o644); err != nil {
			return err
		}
	}
	if err := convertTokenizer(source, outDir, d); err != nil {
		return err
	}
	return copyWeights(ctx, src, filepath.Join(outDir, weights.SingleName), infos, opts, d)
}

// needed says which file is missing, and what to do if another stands for it.
func needed(dir string) error {
	have := func(name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	if !have(tokenizerName) && !have(sentencePieceName) {
		return fmt.Errorf("the folder has neither %s nor %s", tokenizerName, sentencePieceName)
	}
	if have(weights.SingleName) || have(weights.IndexName) {
		return nil
	}
	for _, name := range []string{"pytorch_model.bin", "pytorch_model.bin.index.json"} {
		if have(name) {
			return &UnsupportedError{fmt.Errorf("the weights are pickled (%s), which can run code when it is read; save them as safetensors with save_pretrained(DIR, safe_serialization=True)", name)}
		}
	}
	if have("adapter_config.json") {
		return &UnsupportedError{errors.New("the folder is a PEFT adapter, not a whole model: import its base model")}
	}
	return fmt.Errorf("the folder has neither %s nor %s", weights.SingleName, weights.IndexName)
}

// maxFaults bounds what one message lists.
const maxFaults = 5

// check lists the tensors that config asks for, as they are in src, and what is wrong
// with any of them.
func check(config model.Config, src *weights.File, d *Description) ([]weights.TensorInfo, error) {
	var faults, dtypes []string
	var infos []weights.TensorInfo
	known := map[string]bool{}
	for _, spec := range config.Tensors() {
		known[spec.Name] = true
		info, ok := src.Info(spec.Name)
		switch {
		case !ok:
			faults = append(faults, fmt.Sprintf("tensor %s is missing", spec.Name))
		case !slices.Equal(info.Shape, spec.Shape):
			faults = append(faults, fmt.Sprintf("tensor %s has shape %v, but config.json asks for %v", spec.Name, info.Shape, spec.Shape))
		case info.DType != weights.F32 && info.DType != weights.F16 && info.DType != weights.BF16:
			faults = append(faults, fmt.Sprintf("tensor %s is %s; F32, F16 and BF16 are read", spec.Name, info.DType))
		default:
			infos = append(infos, info)
			if !slices.Contains(dtypes, info.DType) {
				dtypes = append(dtypes, info.DType)
			}
		}
	}
	for _, name := range src.Names() {
		switch {
		case known[name]:
		case name == "lm_head.weight" && config.TieWordEmbeddings:
			d.Notes = append(d.Notes, "lm_head.weight is left out: config.json ties it to the embedding")
		case strings.HasSuffix(name, ".rotary_emb.inv_freq"): // a table that is computed
		default:
			faults = append(faults, fmt.Sprintf("tensor %s is none that %s has", name, config.Architectures[0]))
		}
	}
	if len(faults) > maxFaults {
		faults = append(faults[:maxFaults], fmt.Sprintf("and %d more", len(faults)-maxFaults))
	}
	if len(faults) > 0 {
		return nil, errors.New(strings.Join(faults, "; "))
	}
	d.SourceDType = strings.Join(dtypes, ", ")
	return infos, nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSmallBytes+1))
	if err == nil && len(data) > maxSmallBytes {
		err = fmt.Errorf("%s is larger than %d MiB", path, maxSmallBytes>>20)
	}
	return data, err
}
