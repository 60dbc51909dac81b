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
	f, err := readFolder(source)
	if err != nil {
		return err
	}
	if err := hasWeights(source); err != nil {
		return err
	}
	src, err := weights.Open(source)
	if err != nil {
		return err
	}
	defer src.Close()
	infos, err := check(f.config, src, d)
	if err != nil {
		return err
	}
	if err := copyTexts(source, outDir); err != nil {
		return err
	}
	if err := f.tokens.write(outDir); err != nil {
		return err
	}
	if f.tokens.made {
		d.Notes = append(d.Notes, "tokenizer.json is made of tokenizer.model")
	}
	if err := os.WriteFile(filepath.Join(outDir, configName), f.raw, 0o644); err != nil {
		return err
	}
	return copyWeights(ctx, src, filepath.Join(outDir, weights.SingleName), infos, opts, d)
}

// copyTexts copies the files that go with a model as they are.
func copyTexts(source, outDir string) error {
	names := slices.Clone(optionalNames)
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
	return nil
}

// check lists the tensors that config asks for, as they are in src, and what is wrong
// with any of them.
func check(config model.Config, src *weights.File, d *Description) ([]weights.TensorInfo, error) {
	var f faults
	var dtypes, odd []string
	var infos []weights.TensorInfo
	known := map[string]bool{}
	for _, spec := range config.Tensors() {
		known[spec.Name] = true
		info, ok := src.Info(spec.Name)
		switch {
		case !ok:
			f.missing(spec.Name)
		case !slices.Equal(info.Shape, spec.Shape):
			f.add("tensor %s has shape %v, but config.json asks for %v", spec.Name, info.Shape, spec.Shape)
		case info.DType != weights.F32 && info.DType != weights.F16 && info.DType != weights.BF16:
			odd = append(odd, fmt.Sprintf("tensor %s is %s", spec.Name, info.DType))
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
		case leftOut(config, name):
			if name == headName {
				d.Notes = append(d.Notes, "lm_head.weight is left out: config.json ties it to the embedding")
			}
		default:
			f.unknown(name, config)
		}
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	if len(odd) > 0 {
		return nil, &UnsupportedError{fmt.Errorf("%s; F32, F16 and BF16 are read: choose the original model, or save it in one of them", strings.Join(odd[:min(len(odd), maxFaults)], ", "))}
	}
	d.SourceDType = strings.Join(dtypes, ", ")
	return infos, nil
}

const headName = "lm_head.weight"

// leftOut says of a tensor that config does not ask for that it changes nothing: it is the
// embedding again, or a table that is computed.
func leftOut(config model.Config, name string) bool {
	return name == headName && config.TieWordEmbeddings || strings.HasSuffix(name, ".rotary_emb.inv_freq")
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
	if err == nil && weights.IsPointer(data) {
		err = fmt.Errorf("%s: %s", path, weights.PointerFault)
	}
	return data, err
}
