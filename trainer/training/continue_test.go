package training_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/training"
)

const earlier = "01JDCK3V5W8M2N4P6Q7R8S9T0V"

// adapterOf trains an adapter, in its own way in all that an adapter is bound to.
func adapterOf(t *testing.T) (dir string, s training.Summary) {
	t.Helper()
	in := job(t, `{"model":"tiny","export":{"skip_merged":true},"training":{"epochs":3,"batch_size":4,"gradient_accumulation":2,"rank":3,"alpha":5,"use_rslora":true,"target_modules":["v_proj","q_proj"],"learning_rate":0.01,"load_best":false}}`)
	s, _ = trained(t, in)
	return filepath.Join(in.OutputDir, training.AdapterFolder), s
}

// from is a job that goes on from an adapter, which is among its inputs as an agent
// puts it there.
func from(t *testing.T, dir, settings string) contract.Input {
	t.Helper()
	in := job(t, fmt.Sprintf(`{"model":"tiny","export":{"skip_merged":true},"training":{"init_adapter":%q,%s"epochs":4,"batch_size":4,"gradient_accumulation":2,"dropout":0.1,"learning_rate":0.01,"load_best":false}}`, earlier, settings))
	addAdapter(t, &in, dir)
	return in
}

func addAdapter(t *testing.T, in *contract.Input, dir string) {
	t.Helper()
	for _, name := range []string{adapter.ConfigName, adapter.WeightsName} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		stagetest.AddFile(t, in, contract.AdapterInputs, training.AdapterFolder+"/"+name, data)
	}
}

// The model begins as the other training left it, and what the adapter is bound to is
// the adapter's, whatever the defaults are.
func TestATrainingGoesOnFromAnAdapter(t *testing.T) {
	dir, last := adapterOf(t)
	in := from(t, dir, "")
	byHand := from(t, dir, "")
	byHand.Inputs = slices.DeleteFunc(byHand.Inputs, func(f contract.File) bool { return f.Stage == contract.AdapterInputs })
	byHand.Config = bytes.Replace(byHand.Config, []byte(earlier), []byte(dir), 1)

	s, log := trained(t, in)
	if s.FirstEvalLoss != last.FinalEvalLoss {
		t.Errorf("it begins with a loss of %v, the adapter was left with %v", s.FirstEvalLoss, last.FinalEvalLoss)
	}
	if s.FinalEvalLoss >= s.FirstEvalLoss {
		t.Errorf("nothing was learnt: %v -> %v", s.FirstEvalLoss, s.FinalEvalLoss)
	}
	c := s.Continued
	if c == nil || c.From != earlier || c.Rank != 3 || c.Alpha != 5 || !c.RSLoRA || !slices.Equal(c.TargetModules, []string{"q_proj", "v_proj"}) {
		t.Fatalf("continued %+v", c)
	}
	if !said(log, "training.rank is 3: of the adapter that is continued") || !said(log, "going on from the adapter of "+earlier) {
		t.Error("nobody says what it goes on from")
	}
	config, _, err := adapter.Load(filepath.Join(in.OutputDir, training.AdapterFolder))
	if err != nil {
		t.Fatal(err)
	}
	before, _, err := adapter.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if config.Origin.Continues != earlier || config.Origin.ContinuesSHA256 != c.SHA256 || config.Origin.BaseSHA256 == "" || config.Origin.BaseSHA256 != before.Origin.BaseSHA256 || before.Origin.Continues != "" {
		t.Errorf("the adapter comes from %+v, the one before from %+v", config.Origin, before.Origin)
	}
	if config.Rank != 3 || config.Alpha != 5 || !config.UseRSLoRA {
		t.Errorf("the adapter's config is %+v", config)
	}

	hand, _ := trained(t, byHand)
	_, values, err := adapter.Load(filepath.Join(in.OutputDir, training.AdapterFolder))
	if err != nil {
		t.Fatal(err)
	}
	_, same, err := adapter.Load(filepath.Join(byHand.OutputDir, training.AdapterFolder))
	if err != nil {
		t.Fatal(err)
	}
	for i := range values {
		if !slices.Equal(values[i].Data, same[i].Data) {
			t.Fatalf("from a folder, %s has other values", values[i].Name)
		}
	}
	if hand.Continued.From != training.AdapterFolder {
		t.Errorf("by hand it goes on from %q, want the folder's name", hand.Continued.From)
	}
}

// What the job says itself has to be what the adapter has.
func TestAJobThatSaysWhatTheAdapterSaysGoesOn(t *testing.T) {
	dir, _ := adapterOf(t)
	s, _ := trained(t, from(t, dir, `"rank":3,"alpha":5,"use_rslora":true,"target_modules":["q_proj","v_proj"],`))
	if s.Continued == nil {
		t.Error("it began anew")
	}
}

func TestAnAdapterThatIsNotOfThisJobIsRefusedWithBothValues(t *testing.T) {
	dir, _ := adapterOf(t)
	for name, c := range map[string]struct {
		settings string
		change   func(in *contract.Input)
		code     string
		field    string
		words    []string
	}{
		"rank":           {settings: `"rank":8,`, code: "ADAPTER_MISMATCH", field: "training.rank", words: []string{"is 8", "with 3"}},
		"alpha":          {settings: `"alpha":16,`, code: "ADAPTER_MISMATCH", field: "training.alpha", words: []string{"is 16", "with 5"}},
		"rslora":         {settings: `"use_rslora":false,`, code: "ADAPTER_MISMATCH", field: "training.use_rslora", words: []string{"is false", "with true"}},
		"target modules": {settings: `"target_modules":["all-linear"],`, code: "ADAPTER_MISMATCH", field: "training.target_modules", words: []string{"is all-linear", "with q_proj,v_proj"}},
		"full":           {settings: `"method":"full",`, code: "INVALID_CONFIG", field: "training.init_adapter", words: []string{"method full"}},
		"no files": {change: func(in *contract.Input) {
			in.Inputs = slices.DeleteFunc(in.Inputs, func(f contract.File) bool { return f.Stage == contract.AdapterInputs })
		}, code: "INIT_ADAPTER_MISSING", field: "training.init_adapter", words: []string{earlier}},
		"other weights": {change: func(in *contract.Input) {
			for i := range in.Inputs {
				if in.Inputs[i].Stage == contract.ModelInputs {
					in.Inputs[i].SHA256 = strings.Repeat("0", 64)
				}
			}
		}, code: "ADAPTER_BASE_DIFFERS", field: "training.init_adapter", words: []string{"the model tiny"}},
	} {
		t.Run(name, func(t *testing.T) {
			in := from(t, dir, c.settings)
			if c.change != nil {
				c.change(&in)
			}
			refused(t, in, c.code, c.field, c.words...)
		})
	}
}

func refused(t *testing.T, in contract.Input, code, field string, words ...string) {
	t.Helper()
	_, log, err := stagetest.Run(t.Context(), t, training.Run, in)
	var fault *contract.Error
	if !errors.As(err, &fault) {
		t.Fatalf("accepted, or no error of the contract: %v", err)
	}
	if fault.Code != code || fault.Field != field || fault.Class.Retryable() {
		t.Errorf("%s of %s: %v", fault.Code, fault.Field, err)
	}
	for _, w := range words {
		if !strings.Contains(fault.Message, w) {
			t.Errorf("the message lacks %q: %s", w, fault.Message)
		}
	}
	if said(log, "training with the engine") {
		t.Error("the engine was started first")
	}
}

// Values that belong to another shape, or are none, are found before the engine
// starts.
func TestAnAdapterThatDoesNotFitTheModelIsRefused(t *testing.T) {
	wide := tinyShape()
	wide.HiddenSize, wide.NumHeads = 64, 8
	for name, values := range map[string]struct {
		shape model.Config
		value float32
		words string
	}{
		"another width": {wide, 0, "the base model needs"},
		"not a number":  {tinyShape(), float32(math.NaN()), "NaN"},
	} {
		t.Run(name, func(t *testing.T) {
			in := from(t, written(t, values.shape, values.value), "")
			refused(t, in, "BAD_ADAPTER", "training.init_adapter", values.words)
		})
	}
}

// written is an adapter of a shape as another program would write it: without a word
// on where it comes from.
func written(t *testing.T, shape model.Config, value float32) string {
	t.Helper()
	params, err := shape.InitialLoRA(model.LoRAConfig{Rank: 2, Alpha: 2, TargetModules: []string{"q_proj"}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	var tensors []adapter.Tensor
	for _, p := range params {
		p.Data[0] = value
		tensors = append(tensors, adapter.Tensor{Name: p.Name, Rows: p.Shape[0], Cols: p.Shape[1], Data: p.Data})
	}
	dir := t.TempDir()
	if err := adapter.Save(dir, adapter.NewConfig("tiny", 2, 2, 0, false, []string{"q_proj"}), tensors); err != nil {
		t.Fatal(err)
	}
	return dir
}

// An adapter from elsewhere calls its base model by a name of its own.
func TestABaseModelThatCannotBeComparedIsSaid(t *testing.T) {
	dir := written(t, tinyShape(), 0.5)
	path := filepath.Join(dir, adapter.ConfigName)
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, bytes.Replace(data, []byte(`"tiny"`), []byte(`"org/tiny-1b"`), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	in := from(t, dir, "")
	refused(t, in, "ADAPTER_BASE_DIFFERS", "training.init_adapter", "org/tiny-1b", "tiny") // both are of this mesh
	in.Inputs = slices.DeleteFunc(in.Inputs, func(f contract.File) bool { return f.Stage == contract.AdapterInputs })
	in.Config = bytes.Replace(in.Config, []byte(earlier), []byte(dir), 1)
	_, log := trained(t, in)
	if w, ok := log.Warning("ADAPTER_BASE_UNKNOWN"); !ok || !strings.Contains(w.Message, "org/tiny-1b") {
		t.Errorf("warned %v: %s", ok, w.Message)
	}
}

// Checkpoints belong to the adapter that the training went on from, by its content.
func TestACheckpointFromAnotherAdapterIsPassedOver(t *testing.T) {
	in := from(t, written(t, tinyShape(), 0.5), `"checkpoint_steps":2,`)
	trained(t, in)
	again, log := trained(t, in)
	if _, skipped := log.Warning("CHECKPOINT_SKIPPED"); skipped || again.ResumedAt == 0 {
		t.Fatalf("its own checkpoint was passed over: resumed at %d", again.ResumedAt)
	}
	in.Inputs = slices.DeleteFunc(in.Inputs, func(f contract.File) bool { return f.Stage == contract.AdapterInputs })
	addAdapter(t, &in, written(t, tinyShape(), 0.25))
	other, log := trained(t, in)
	w, skipped := log.Warning("CHECKPOINT_SKIPPED")
	if !skipped || other.ResumedAt != 0 || !strings.Contains(w.Message, "training.init_adapter was") {
		t.Errorf("went on at step %d; %s", other.ResumedAt, w.Message)
	}
}

// Killed in between, it ends with the bits of one that was not.
func TestAKilledTrainingFromAnAdapterEndsWithTheSameBits(t *testing.T) {
	dir, _ := adapterOf(t)
	settings := `"checkpoint_steps":1,"logging_steps":1,`
	calm := from(t, dir, settings)
	if _, err := start(t, calm).wait(t); err != nil {
		t.Fatal(err)
	}
	want := outcome(t, calm)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	in := from(t, dir, settings)
	for range 4 {
		p := start(t, in)
		p.until(2 + rng.IntN(3)) // one checkpoint at least
		p.kill()
	}
	result, err := start(t, in).wait(t)
	if err != nil {
		t.Fatalf("%v: %+v", err, result.Error)
	}
	var s training.Summary
	raw, err := json.Marshal(result.Output[training.OutputKey])
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil || s.ResumedAt == 0 {
		t.Errorf("the last start began at step %d: %v", s.ResumedAt, err)
	}
	if !bytes.Equal(outcome(t, in), want) {
		t.Error("weights or log differ from those of an undisturbed training")
	}
}
