package training

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/export"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/optim"
	"github.com/tunemesh/tunemesh/trainer/sample"
)

// trainer is one attempt of the stage.
type trainer struct {
	config   contract.Config
	emit     *contract.Emitter
	modelDir string
	shape    model.Config
	engine   engine.Engine
	rate     optim.Schedule

	train, validation []sample.Sample
	order             Order
	total             int // steps
	fingerprint       Fingerprint
	store             Store
	state             State

	began                     time.Time
	startTokens, startSamples int64
	resumedAt                 int

	memory     func() int64 // free for this process, bytes
	recompute  bool
	maxTokens  int    // of a micro-batch
	pads       bool   // the engine fills rows up to the longest
	found      string // checkpoint to go on from
	foundState State
	skipped    int // steps in a row whose gradients overflowed

	continued *Continued       // the adapter that it goes on from, if there is one
	initial   []adapter.Tensor // its values
}

func (t *trainer) close() {
	if t.engine != nil {
		_ = t.engine.Close() // what was trained has been saved by now
	}
}

func prepare(in contract.Input, c contract.Config) (*trainer, error) {
	if c.Training.Method != "lora" && c.Training.Method != "full" {
		return nil, &contract.Error{Class: contract.ClassConfig, Code: "UNKNOWN_METHOD", Field: "training.method", Message: fmt.Sprintf("there is no method %q", c.Training.Method)}
	}
	t := &trainer{config: c, store: Store{Dir: in.CheckpointDir}}
	if in.CheckpointDir == "" {
		t.store.Dir = filepath.Join(in.OutputDir, "..", "checkpoints")
	}
	return t, nil
}

// ready reads and checks everything before the engine is opened, which is what
// takes time.
func (t *trainer) ready(in contract.Input) error {
	for _, next := range []func(contract.Input) error{t.inspectModel, t.loadData, t.goOnFrom, t.identify, t.settle, t.plan} {
		if err := next(in); err != nil {
			return err
		}
	}
	return nil
}

func (t *trainer) inspectModel(in contract.Input) error {
	var err error
	if t.modelDir, err = in.Dir(contract.ModelInputs, ""); err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(t.modelDir, "config.json"))
	if err != nil {
		return fmt.Errorf("training: base model: %w", err)
	}
	if t.shape, err = model.ParseConfig(data); err != nil {
		return &contract.Error{Class: contract.ClassUnsupported, Code: "MODEL_UNSUPPORTED", Message: err.Error(), Field: "model", Hint: "evaluation and export must know the architecture too, so this holds for every engine"}
	}
	// What cannot be exported in the end had better not be trained.
	if formats := t.config.Export.GGUF; !t.config.Export.SkipMerged {
		if err := export.Check(t.modelDir, formats); err != nil {
			return err
		}
	}
	return nil
}

func (t *trainer) loadData(in contract.Input) error {
	read := func(name string) ([]sample.Sample, error) {
		f, err := in.FindName(name)
		if err != nil {
			return nil, err
		}
		return sample.ReadFile(f.Path, 0)
	}
	var err error
	if t.train, err = read(sample.TrainFile); err != nil {
		return err
	}
	if t.validation, err = read(sample.ValidationFile); err != nil {
		return err
	}
	t.capValidation()
	if len(t.train) == 0 {
		return &contract.Error{Class: contract.ClassBadInput, Code: "NO_TRAINING_DATA", Message: "preprocessing left no sample to train on", Hint: "its report says which rows were dropped and why"}
	}
	shape := t.shape
	for _, split := range [][]sample.Sample{t.train, t.validation} {
		for i := range split {
			s := &split[i]
			if len(s.Tokens) > shape.MaxPositions {
				return &contract.Error{Class: contract.ClassConfig, Code: "SAMPLE_TOO_LONG", Row: s.Row, Field: "preprocessing.max_length", Message: fmt.Sprintf("a sample has %d tokens, the model's context is %d", len(s.Tokens), shape.MaxPositions)}
			}
			if i := slices.IndexFunc(s.Tokens, func(id int32) bool { return id < 0 || int(id) >= shape.VocabSize }); i >= 0 {
				return &contract.Error{Class: contract.ClassConfig, Code: "FOREIGN_TOKENS", Row: s.Row, Message: fmt.Sprintf("token %d is not in the model's vocabulary of %d: the data were tokenized for another model", s.Tokens[i], shape.VocabSize), Hint: "preprocessing and training must see the same base model"}
			}
		}
	}
	return nil
}

// plan sets up the order of the data and the schedule.
func (t *trainer) plan(contract.Input) error {
	c := t.config.Training
	t.order = Order{PerStep: c.BatchSize * c.GradientAccum, Seed: t.config.Seed}
	for i := range t.train {
		t.order.Lengths = append(t.order.Lengths, len(t.train[i].Tokens))
	}
	t.total = c.Epochs * t.order.StepsPerEpoch()
	if c.MaxSteps > 0 {
		t.total = min(t.total, c.MaxSteps)
	}
	t.rate = optim.Schedule{Kind: c.Schedule, Peak: c.LearningRate, Warmup: int(c.WarmupRatio * float64(t.total)), Total: t.total}
	if err := t.rate.Validate(); err != nil {
		return &contract.Error{Class: contract.ClassConfig, Code: "INVALID_CONFIG", Message: err.Error(), Field: "training.schedule"}
	}
	return nil
}

// identify computes what a checkpoint must agree with. How often is logged or
// saved changes no weight and may differ.
func (t *trainer) identify(in contract.Input) error {
	settings := t.config.Training
	settings.CheckpointSteps, settings.LoggingSteps, settings.EvaluationsPerEpoch = 0, 0, 0
	settings.Compute = contract.Computes[0]                          // a change is said, and goes on
	settings.Engine, settings.Workers, settings.Sharding = "", 0, "" // any engine goes on
	settings.Patience, settings.MinDelta, settings.LoadBest, settings.OnDivergence = 0, 0, false, ""
	if t.continued != nil {
		settings.InitAdapter = t.continued.SHA256 // whatever it is called
	}
	// Field names as they are: older checkpoints carry the hash of this document.
	config, err := json.Marshal(struct {
		Seed     uint64
		Training contract.TrainingConfig
	}{t.config.Seed, settings})
	if err != nil {
		return fmt.Errorf("training: %w", err)
	}
	var data, base strings.Builder
	for _, f := range in.Inputs {
		switch {
		case f.Stage == contract.ModelInputs && (f.Name == "config.json" || strings.HasSuffix(f.Name, ".safetensors")):
			fmt.Fprintln(&base, f.Name, f.SHA256)
		case f.Name == sample.TrainFile || f.Name == sample.ValidationFile:
			fmt.Fprintln(&data, f.Name, f.SHA256)
		}
	}
	t.fingerprint = Fingerprint{Config: hash(string(config)), Data: hash(data.String()), Model: hash(base.String()), settings: string(config)}
	t.state = State{Version: stateVersion, Fingerprint: t.fingerprint, Settings: config, Seed: t.config.Seed}
	return nil
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
