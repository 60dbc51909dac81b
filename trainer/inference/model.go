package inference

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tuned"
)

// Network is the arithmetic: a model whose sessions keep keys and values. It is
// used by one goroutine at a time. *model.Model is one.
type Network interface {
	NewSession() *model.Session
	Config() model.Config
}

// Loaded is a model with all that turns text into tokens and back.
type Loaded struct {
	Network   Network
	Tokenizer *tokenizer.Tokenizer
	Template  *template.Template
	Name      string
	Tuned     bool
	Settled   Settled
	Adapter   *Adapter // nil: none
	// Took is how long the loading took.
	Took time.Duration

	stop  []int32 // tokens that end a text
	close func() error
}

// Adapter is the LoRA adapter of a loaded model.
type Adapter struct {
	BaseModel  string // that it was trained on, as its config has it
	LoRA       model.LoRAConfig
	Parameters int64
	Bytes      int64 // in memory
}

// Load opens the models in their folders: a base model, with an adapter in PEFT
// layout or in the place of it a full set of tuned weights. templateName is a
// builtin's name, or empty for the model's own. settled is what Settle said of the
// same folders.
func Load(name string, f tuned.Files, templateName string, settled Settled) (*Loaded, error) {
	began := time.Now()
	isTuned := f.Adapter != "" || f.Full != ""
	p, ok := precisions[settled.Precision]
	if !ok {
		return nil, fmt.Errorf("inference: no precision %q to load a model in", settled.Precision)
	}
	m, err := f.OpenAs(p)
	if err != nil {
		return nil, err
	}
	l := &Loaded{Network: m, Name: name, Tuned: isTuned, Settled: settled, close: m.Close}
	if f.Adapter != "" {
		if l.Adapter, err = describe(m.Model, f.Adapter); err != nil {
			m.Close()
			return nil, err
		}
	}
	if err := l.text(f.Base, templateName); err != nil {
		m.Close()
		return nil, err
	}
	l.Took = time.Since(began)
	return l, nil
}

// describe says what adapter a model has, which lies in dir. The gradients go:
// nothing is trained here.
func describe(m *model.Model, dir string) (*Adapter, error) {
	cfg, err := adapter.ReadConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("inference: %w", err)
	}
	a := &Adapter{BaseModel: cfg.BaseModel, LoRA: *m.LoRA()}
	for _, p := range m.Params() {
		p.Grad = nil
		a.Parameters += int64(len(p.Data))
	}
	a.Bytes = 4 * a.Parameters
	return a, nil
}

// text loads what stands beside the weights.
func (l *Loaded) text(dir, templateName string) (err error) {
	if l.Tokenizer, _, err = tuned.Tokenizer(dir); err != nil {
		return err
	}
	if templateName != "" {
		l.Template, err = template.Open(dir, templateName)
	} else {
		l.Template, err = template.ForModel(dir)
	}
	if err != nil {
		return fmt.Errorf("inference: chat template of %s: %w", filepath.Base(dir), err)
	}
	_, eos, err := template.Source(dir)
	if err != nil {
		return fmt.Errorf("inference: %w", err)
	}
	l.stop = tuned.Stops(l.Tokenizer, l.Network.Config(), l.Template, eos)
	return nil
}

// Close gives the mapped weights back.
func (l *Loaded) Close() error {
	if l.close == nil {
		return nil
	}
	return l.close()
}
