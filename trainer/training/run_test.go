package training_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/training"
	"github.com/tunemesh/tunemesh/trainer/training/history"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// job is the input of a training on a tiny random model: 40 samples whose last
// token follows from the first, so that there is something to learn.
func job(t testing.TB, config string) contract.Input {
	t.Helper()
	return jobWith(t, config, tinyShape(), samples(40, 1), samples(8, 2))
}

func tinyShape() model.Config {
	return model.Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", HiddenAct: "silu",
		HiddenSize: 32, IntermediateSize: 48, NumLayers: 2, NumHeads: 4, NumKVHeads: 2, HeadDim: 8,
		VocabSize: 40, MaxPositions: 32, RMSNormEps: 1e-5, RopeTheta: 10000, TieWordEmbeddings: true,
	}
}

// jobWith is the input of a training on a random model of a shape, stored as BF16.
func jobWith(t testing.TB, config string, shape model.Config, train, validation []byte) contract.Input {
	t.Helper()
	in := stagetest.Input(t, "training", "data.csv", []byte("not read"), config)
	m, err := model.NewRandom(shape, 5)
	if err != nil {
		t.Fatal(err)
	}
	var infos []weights.TensorInfo
	for _, spec := range shape.Tensors() {
		infos = append(infos, weights.TensorInfo{Name: spec.Name, DType: weights.BF16, Shape: spec.Shape})
	}
	path := filepath.Join(t.TempDir(), weights.SingleName)
	err = weights.WriteFloats(path, infos, func(name string) ([]float32, error) {
		_, values, err := m.MergedTensor(name)
		return values, err
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config1, err := json.Marshal(shape)
	if err != nil {
		t.Fatal(err)
	}
	stagetest.AddFile(t, &in, contract.ModelInputs, "config.json", config1)
	stagetest.AddFile(t, &in, contract.ModelInputs, weights.SingleName, raw)
	stagetest.AddFile(t, &in, "preprocessing", sample.TrainFile, train)
	stagetest.AddFile(t, &in, "preprocessing", sample.ValidationFile, validation)
	return in
}

func samples(n int, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	var out []byte
	for i := range n {
		s := sample.Sample{Row: int64(i + 2)}
		for range 4 + rng.IntN(8) {
			s.Tokens = append(s.Tokens, int32(rng.IntN(30)))
		}
		s.PromptTokens = len(s.Tokens)
		s.Tokens = append(s.Tokens, 30+s.Tokens[0]%4)
		s.Loss = [][2]int{{s.PromptTokens, len(s.Tokens)}}
		out = sample.Append(out, &s)
	}
	return out
}

// The model has no tokenizer, so what is tested here is trained without a look at
// the export.
const config = `{"model":"tiny","export":{"skip_merged":true},"training":{%s"epochs":3,"batch_size":4,"gradient_accumulation":2,"dropout":0.1,"rank":4,"learning_rate":0.01,"checkpoint_steps":2,"logging_steps":1}}`

var methods = []string{`"method":"lora",`, `"method":"full",`}

func weightsOf(t *testing.T, in contract.Input) []byte {
	t.Helper()
	for _, name := range []string{training.AdapterFolder + "/" + adapter.WeightsName, training.FullFolder + "/" + weights.SingleName} {
		if data, err := os.ReadFile(filepath.Join(in.OutputDir, name)); err == nil {
			return data
		}
	}
	t.Fatal("training left no weights")
	return nil
}

func TestTrainingLowersTheLossAndLeavesWhatItPromises(t *testing.T) {
	for _, method := range methods {
		in := job(t, fmt.Sprintf(config, method))
		result, log, err := stagetest.Run(t.Context(), t, training.Run, in)
		if err != nil {
			t.Fatal(err)
		}
		s := result.Output[training.OutputKey].(training.Summary)
		if s.Steps != 15 || s.Epochs != 3 || s.Samples != 120 {
			t.Errorf("%s 40 samples, 8 a step, 3 epochs: %+v", method, s)
		}
		if !(s.FinalEvalLoss < s.FirstEvalLoss-0.1) {
			t.Errorf("%s validation loss went from %.3f to %.3f", method, s.FirstEvalLoss, s.FinalEvalLoss)
		}
		kept, err := history.Read(filepath.Join(in.OutputDir, history.FileName))
		if err != nil || len(kept.Steps) != 15 || len(kept.Evaluations) != 4 {
			t.Errorf("%s history has %d steps and %d evaluations (%v)", method, len(kept.Steps), len(kept.Evaluations), err)
		}
		var announced []string
		for _, e := range log.Events {
			if e.Checkpoint != "" {
				announced = append(announced, e.Checkpoint)
				if _, err := os.Stat(filepath.Join(in.CheckpointDir, e.Checkpoint, "optimizer.safetensors")); err != nil {
					t.Errorf("announced checkpoint: %v", err)
				}
			}
		}
		if strings.Join(announced, " ") != "epoch_1 epoch_2 epoch_3" {
			t.Errorf("%s announced %v", method, announced)
		}
	}
}

// A zero in the config is a zero where the steps are made: without a warm-up the
// first step has the full rate, and without a norm to clip to nothing is clipped.
func TestAZeroInTheConfigReachesTheSteps(t *testing.T) {
	first := func(settings string) history.Step {
		t.Helper()
		in := job(t, `{"model":"tiny","export":{"skip_merged":true},"training":{`+settings+`"epochs":12,"batch_size":8,"rank":4,"learning_rate":0.01,"logging_steps":1,"schedule":"constant","evaluations_per_epoch":1}}`)
		if _, _, err := stagetest.Run(t.Context(), t, training.Run, in); err != nil {
			t.Fatal(err)
		}
		log, err := history.Read(filepath.Join(in.OutputDir, history.FileName))
		if err != nil {
			t.Fatal(err)
		}
		return log.Steps[0]
	}
	if s := first(``); s.LearningRate >= 0.01 {
		t.Errorf("by default there is no warm-up, so that the test says nothing: %+v", s)
	}
	if s := first(`"warmup_ratio":0,"max_grad_norm":0,`); s.LearningRate != 0.01 || s.GradNorm == 0 {
		t.Errorf("%+v", s)
	}
}

// stopAt cancels a context when the log reports a step.
type stopAt struct {
	step   int64
	cancel context.CancelFunc
}

func (s *stopAt) Write(p []byte) (int, error) {
	var e contract.Event
	if json.Unmarshal(bytes.TrimSpace(p), &e) == nil && e.Loss != nil && e.Step != nil && *e.Step == s.step {
		s.cancel()
	}
	return len(p), nil
}

// Stopped at any steps and started again, the training ends with the very bytes
// of one that was not disturbed: dropout, order of the data and moments included.
func TestAnInterruptedTrainingEndsWithTheSameBits(t *testing.T) {
	for _, method := range append(methods, `"packing_tokens":40,`) {
		calm := job(t, fmt.Sprintf(config, method))
		if _, _, err := stagetest.Run(t.Context(), t, training.Run, calm); err != nil {
			t.Fatal(err)
		}
		want := weightsOf(t, calm)

		rng := rand.New(rand.NewPCG(7, 7))
		for round := range 4 {
			in := job(t, fmt.Sprintf(config, method))
			cuts := []int64{1 + rng.Int64N(6), 8 + rng.Int64N(6)}
			for _, cut := range cuts {
				ctx, cancel := context.WithCancel(t.Context())
				_, err := training.Run(ctx, in, contract.NewEmitter(&stopAt{cut, cancel}, "TestAgent", time.Now))
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("round %d: stopped at step %d: %v", round, cut, err)
				}
			}
			result, _, err := stagetest.Run(t.Context(), t, training.Run, in)
			if err != nil {
				t.Fatal(err)
			}
			if s := result.Output[training.OutputKey].(training.Summary); int64(s.ResumedAt) != cuts[1] || s.Steps != 15 || s.Samples != 120 {
				t.Errorf("stopped at %v: %+v", cuts, s)
			}
			if got := weightsOf(t, in); !bytes.Equal(got, want) {
				t.Errorf("%s stopped at %v: the weights differ from those of an undisturbed training", method, cuts)
			}
		}
	}
}

// A crash leaves no farewell checkpoint: the training goes on from the last one
// that it saved by itself, and a damaged one is passed over.
func TestADamagedCheckpointIsPassedOver(t *testing.T) {
	calm := job(t, fmt.Sprintf(config, ""))
	if _, _, err := stagetest.Run(t.Context(), t, training.Run, calm); err != nil {
		t.Fatal(err)
	}
	in := job(t, fmt.Sprintf(config, ""))
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := training.Run(ctx, in, contract.NewEmitter(&stopAt{9, cancel}, "TestAgent", time.Now)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	newest := filepath.Join(in.CheckpointDir, "step_9", adapter.WeightsName)
	data, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-3] ^= 1
	if err := os.WriteFile(newest, data, 0o600); err != nil {
		t.Fatal(err)
	}
	result, log, err := stagetest.Run(t.Context(), t, training.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := log.Warning("CHECKPOINT_SKIPPED"); !ok {
		t.Error("nothing is said of the damaged checkpoint")
	}
	if s := result.Output[training.OutputKey].(training.Summary); s.ResumedAt != 8 {
		t.Errorf("went on at step %d, want 8", s.ResumedAt)
	}
	if !bytes.Equal(weightsOf(t, in), weightsOf(t, calm)) {
		t.Error("the weights differ from those of an undisturbed training")
	}
}

func TestWhatCannotBeTrainedIsRefused(t *testing.T) {
	tests := []struct {
		name, code string
		class      contract.Class
		change     func(in *contract.Input)
		config     string
	}{
		{"a model that could not be exported", "UNUSABLE_MODEL", contract.ClassUnsupported, func(*contract.Input) {}, `{}`},
		{"tokens of another model", "FOREIGN_TOKENS", contract.ClassConfig, func(in *contract.Input) {
			s := sample.Sample{Row: 9, Tokens: []int32{1, 99}, Loss: [][2]int{{1, 2}}, PromptTokens: 1}
			replace(in, sample.TrainFile, sample.Append(nil, &s))
		}, ""},
		{"no samples", "NO_TRAINING_DATA", contract.ClassBadInput, func(in *contract.Input) { replace(in, sample.TrainFile, nil) }, ""},
		{"too long", "SAMPLE_TOO_LONG", contract.ClassConfig, func(in *contract.Input) {
			s := sample.Sample{Row: 9, Tokens: make([]int32, 33), Loss: [][2]int{{1, 2}}, PromptTokens: 1}
			replace(in, sample.TrainFile, sample.Append(nil, &s))
		}, ""},
		{"another architecture", "MODEL_UNSUPPORTED", contract.ClassUnsupported, func(in *contract.Input) {
			replace(in, "config.json", []byte(`{"architectures":["MambaForCausalLM"],"model_type":"mamba"}`))
		}, ""},
		{"a loss that is no number", "DIVERGED", contract.ClassConfig, func(in *contract.Input) {
			for _, f := range in.Inputs {
				if f.Name == weights.SingleName {
					data, _ := os.ReadFile(f.Path)
					copy(data[len(data)-2:], []byte{0xc0, 0x7f}) // a NaN in BF16
					replace(in, weights.SingleName, data)
				}
			}
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.config == "" {
				tt.config = fmt.Sprintf(config, "")
			}
			in := job(t, tt.config)
			tt.change(&in)
			_, err := training.Run(t.Context(), in, contract.NewEmitter(io.Discard, "TestAgent", time.Now))
			var e *contract.Error
			if !errors.As(err, &e) || e.Code != tt.code || e.Class != tt.class {
				t.Errorf("got %v, want %s", err, tt.code)
			}
		})
	}
}

func replace(in *contract.Input, name string, data []byte) {
	for _, f := range in.Inputs {
		if f.Name == name {
			if err := os.WriteFile(f.Path, data, 0o600); err != nil {
				panic(err)
			}
		}
	}
}
