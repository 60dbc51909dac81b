package importer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// Check refuses a model for what can be told without its weights: path is a folder that may
// lack them, or the beginning of a GGUF file. weightBytes is how large a folder's weights are
// going to be, 0 if that is not known. nil means that nothing speaks against an Import so far.
func Check(path string, weightBytes int64) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		if err := gguf.Supported(path); err != nil {
			return &UnsupportedError{within(err, path)}
		}
		return nil
	}
	f, err := readFolder(path)
	if err != nil {
		return within(err, path)
	}
	// All number formats that are read take two bytes at least.
	if need := 2 * f.config.NumParams(); weightBytes > 0 && weightBytes < need {
		return &UnsupportedError{fmt.Errorf("the weights are %d bytes, but %d parameters take %d in 16 bits: they are quantized, or not whole; choose the original model, or a GGUF file of it", weightBytes, f.config.NumParams(), need)}
	}
	return nil
}

// folder is what a Hugging Face folder says of its model beside the weights.
type folder struct {
	config model.Config
	raw    []byte // config.json
	tokens tokenizerFiles
}

func readFolder(dir string) (folder, error) {
	var f folder
	raw, err := readConfig(dir)
	if err != nil {
		return f, err
	}
	f.raw = raw
	if f.config, err = model.ParseConfig(raw); err != nil {
		return f, &UnsupportedError{err}
	}
	if f.tokens, err = readTokenizer(dir); err != nil {
		return f, err
	}
	if n := f.tokens.tokenizer.VocabSize(); n > f.config.VocabSize {
		return f, fmt.Errorf("the tokenizer has %d tokens, but the model's embedding %d rows: they do not belong together; fetch or copy both from one place", n, f.config.VocabSize)
	}
	return f, checkIndex(f.config, filepath.Join(dir, weights.IndexName))
}

// checkIndex looks at the names of the tensors, if an index has them.
func checkIndex(config model.Config, path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) { // a model in one file
		return nil
	}
	index, err := weights.ReadIndex(path)
	if err != nil {
		return err
	}
	var f faults
	known := map[string]bool{}
	for _, spec := range config.Tensors() {
		known[spec.Name] = true
		if _, ok := index[spec.Name]; !ok {
			f.missing(spec.Name)
		}
	}
	var names []string
	for name := range index {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !known[name] && !leftOut(config, name) {
			f.unknown(name, config)
		}
	}
	return f.err()
}

// maxFaults bounds what one message lists.
const maxFaults = 5

// faults are what is wrong with tensors.
type faults struct{ list []string }

func (f *faults) add(format string, args ...any) {
	f.list = append(f.list, fmt.Sprintf(format, args...))
}

func (f *faults) missing(name string) { f.add("tensor %s is missing", name) }

func (f *faults) unknown(name string, config model.Config) {
	f.add("tensor %s is none that %s has", name, config.Architectures[0])
}

func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	if n := len(f.list); n > maxFaults {
		f.list = append(f.list[:maxFaults], fmt.Sprintf("and %d more", n-maxFaults))
	}
	return errors.New(strings.Join(f.list, "; ") + ": the weights are not those that config.json describes; fetch the model again, or choose another one")
}
