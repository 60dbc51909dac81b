package tuned

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// Names of the folders that training leaves, as artifacts.
const (
	AdapterFolder = "adapter" // PEFT layout
	FullFolder    = "full"    // Hugging Face layout
)

// Files are the folders of the two models. Either Adapter or Full is set.
type Files struct {
	Base    string
	Adapter string
	Full    string
}

// Find looks for the folders among a stage's inputs.
func Find(in contract.Input) (Files, error) {
	var f Files
	var err error
	if f.Base, err = in.Dir(contract.ModelInputs, ""); err != nil {
		return Files{}, err
	}
	if f.Adapter, err = in.DirName(AdapterFolder); err == nil {
		return f, nil
	}
	var fullErr error
	if f.Full, fullErr = in.DirName(FullFolder); fullErr == nil {
		return f, nil
	}
	return Files{}, err
}

// Model is an open model. Close gives its mapped files back; the model must not
// be used after.
type Model struct {
	*model.Model
	files *weights.File
}

// Close unmaps the weights.
func (m *Model) Close() error { return m.files.Close() }

// OpenBase loads the base model.
func (f Files) OpenBase() (*Model, error) { return Open(f.Base) }

// OpenTuned loads the tuned model: the base model with its adapter, or the full
// set of weights.
func (f Files) OpenTuned() (*Model, error) { return f.openTuned(model.Stored) }

// OpenAs loads the tuned model, or the base model where there is no tuned one, with its
// weights in a precision.
func (f Files) OpenAs(p model.Precision) (*Model, error) {
	if f.Adapter == "" && f.Full == "" {
		return openAs(f.Base, p)
	}
	return f.openTuned(p)
}

func (f Files) openTuned(p model.Precision) (*Model, error) {
	if f.Adapter == "" {
		return openAs(f.Full, p)
	}
	m, err := openAs(f.Base, p)
	if err != nil {
		return nil, err
	}
	if err := Apply(m.Model, f.Adapter); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Open loads the model in a Hugging Face folder.
func Open(dir string) (*Model, error) { return openAs(dir, model.Stored) }

func openAs(dir string, p model.Precision) (*Model, error) {
	cfg, err := Config(dir)
	if err != nil {
		return nil, err
	}
	files, err := weights.Open(dir)
	if err != nil {
		return nil, Unusable(err)
	}
	m, err := model.LoadAs(cfg, files, p)
	if err != nil {
		files.Close()
		return nil, Unusable(err)
	}
	return &Model{m, files}, nil
}

// Config reads a folder's config.json.
func Config(dir string) (model.Config, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return model.Config{}, Unusable(fmt.Errorf("the model's config: %w", err))
	}
	cfg, err := model.ParseConfig(raw)
	if err != nil {
		return model.Config{}, Unusable(err)
	}
	return cfg, nil
}

// Tokenizer loads the folder's tokenizer and returns the hash of its file, in hex.
func Tokenizer(dir string) (*tokenizer.Tokenizer, string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, tokenizer.FileName))
	if err != nil {
		return nil, "", Unusable(fmt.Errorf("the model's tokenizer: %w", err))
	}
	tok, err := tokenizer.Parse(raw)
	if err != nil {
		return nil, "", Unusable(err)
	}
	sum := sha256.Sum256(raw)
	return tok, hex.EncodeToString(sum[:]), nil
}

// Unusable says that a model's folder is not one that this build can use.
func Unusable(err error) *contract.Error {
	return &contract.Error{
		Class: contract.ClassUnsupported, Code: "UNUSABLE_MODEL", Field: "model", Message: err.Error(),
		Hint: "choose another base model, or give this one what is missing",
	}
}
