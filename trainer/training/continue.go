package training

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/plan"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// Continued is the adapter that a training went on from, and the settings that come
// with it.
type Continued struct {
	From          string   `json:"from"`   // a job's id, or the name of a folder
	SHA256        string   `json:"sha256"` // of its adapter_model.safetensors
	Rank          int      `json:"rank"`
	Alpha         float64  `json:"alpha"`
	RSLoRA        bool     `json:"use_rslora"`
	TargetModules []string `json:"target_modules"`
}

// goOnFrom reads the adapter that training.init_adapter names, takes over what it
// was trained with, and refuses one that is not of this model.
func (t *trainer) goOnFrom(in contract.Input) error {
	name := t.config.Training.InitAdapter
	if name == "" {
		return nil
	}
	dir, ofJob, err := adapterFolder(in, name)
	if err != nil {
		return err
	}
	document, err := os.ReadFile(filepath.Join(dir, adapter.ConfigName))
	if err != nil {
		return unfit("INIT_ADAPTER_MISSING", fmt.Sprintf("%s holds no adapter: %v", name, err), "a folder in PEFT's layout has adapter_config.json and adapter_model.safetensors")
	}
	settled, settings, err := plan.Continue(t.config, document)
	if err != nil {
		return err
	}
	config, tensors, err := adapter.Load(dir)
	if err != nil {
		return unfit("BAD_ADAPTER", err.Error(), "the adapter is damaged, or not one that this build can apply")
	}
	if err := t.sameBase(in, config, ofJob); err != nil {
		return err
	}
	params, err := t.shape.InitialLoRA(model.LoRAConfig{Rank: settled.Rank, Alpha: settled.Alpha, TargetModules: settled.TargetModules}, 0)
	if err != nil {
		return unfit("BAD_ADAPTER", err.Error(), "")
	}
	if _, err := tuned.Fit(config, tensors, params); err != nil {
		var fault *contract.Error
		if errors.As(err, &fault) {
			fault.Field, fault.Hint = "training.init_adapter", "choose the base model that the adapter was trained on"
		}
		return err
	}
	sum, err := sumFile(filepath.Join(dir, adapter.WeightsName))
	if err != nil {
		return fmt.Errorf("training: adapter: %w", err)
	}
	if !ofJob {
		name = filepath.Base(filepath.Clean(name)) // where it lay says nothing elsewhere
	}
	t.config.Training, t.initial = settled, tensors
	t.continued = &Continued{From: name, SHA256: sum.SHA256, Rank: settled.Rank, Alpha: settled.Alpha, RSLoRA: settled.RSLoRA, TargetModules: settled.TargetModules}
	for _, s := range settings {
		t.emit.Info(fmt.Sprintf("%s is %s: %s", s.Field, s.Value, s.Reason), map[string]any{"field": s.Field, "value": s.Value})
	}
	t.emit.Info("going on from the adapter of "+name, map[string]any{"field": "training.init_adapter", "sha256": sum.SHA256})
	return nil
}

// adapterFolder is where the adapter lies: among the inputs where it is a job's, and
// else in the folder itself.
func adapterFolder(in contract.Input, name string) (dir string, ofJob bool, err error) {
	if dir, err := in.Dir(contract.AdapterInputs, tuned.AdapterFolder); err == nil {
		return dir, true, nil
	}
	if st, err := os.Stat(name); err == nil && st.IsDir() {
		return name, false, nil
	}
	return "", false, unfit("INIT_ADAPTER_MISSING", fmt.Sprintf("the adapter of %s is not among the stage's inputs, and there is no such folder", name),
		"in a mesh name a job whose training made an adapter, by hand a folder in PEFT's layout")
}

// sameBase compares the base model that the adapter was made on with the job's, as
// far as the adapter tells. One of this program has the hash of the weights; others
// have a name, which need not be the mesh's, and are judged by their shapes alone.
func (t *trainer) sameBase(in contract.Input, a adapter.Config, ofJob bool) error {
	hint := "an adapter is worth nothing on another model: choose the model that it was trained on"
	was, is := a.Origin.BaseSHA256, baseSHA256(in)
	switch {
	case was != "" && is != "" && was != is:
		return unfit("ADAPTER_BASE_DIFFERS", fmt.Sprintf("the adapter was trained on the weights %.12s of the model %s, this job has the weights %.12s of the model %s", was, a.BaseModel, is, t.config.Model), hint)
	case was != "" && is != "" || a.BaseModel == t.config.Model:
		return nil
	case ofJob:
		return unfit("ADAPTER_BASE_DIFFERS", fmt.Sprintf("the adapter was trained on the model %s, this job has the model %s", a.BaseModel, t.config.Model), hint)
	}
	t.emit.Warn("ADAPTER_BASE_UNKNOWN", fmt.Sprintf("the adapter says that its base model is %q, the job has %q: its shapes fit, whether it is the same model nothing can tell", a.BaseModel, t.config.Model), nil)
	return nil
}

// origin is what the adapter's file says of where it comes from.
func (t *trainer) origin(in contract.Input) adapter.Origin {
	o := adapter.Origin{BaseSHA256: baseSHA256(in)}
	if c := t.continued; c != nil {
		o.Continues, o.ContinuesSHA256 = c.From, c.SHA256
	}
	return o
}

// baseSHA256 is the hash of the hashes of the base model's files of weights, "" where
// a stage that was started by hand does not give them.
func baseSHA256(in contract.Input) string {
	var sums []string
	for _, f := range in.Inputs {
		if f.Stage != contract.ModelInputs || filepath.Ext(f.Name) != filepath.Ext(weights.SingleName) {
			continue
		}
		if f.SHA256 == "" {
			return ""
		}
		sums = append(sums, f.SHA256)
	}
	if len(sums) == 0 {
		return ""
	}
	slices.Sort(sums)
	h := sha256.Sum256([]byte(strings.Join(sums, "\n")))
	return hex.EncodeToString(h[:])
}

func unfit(code, message, hint string) *contract.Error {
	return &contract.Error{Class: contract.ClassConfig, Code: code, Field: "training.init_adapter", Message: message, Hint: hint}
}
