package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/engine/peft"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// probe imports everything and prints what torch sees.
const probe = `import json, sys
import torch, transformers, peft, accelerate, safetensors
devices, fault = ["cpu"], ""
if torch.cuda.is_available():
    devices.append("cuda")
elif torch.version.cuda or torch.version.hip:
    try:
        torch.cuda.init()
    except Exception as e:
        fault = str(e).splitlines()[0]
else:
    fault = "torch " + torch.__version__ + " was built without CUDA"
if torch.backends.mps.is_available():
    devices.append("mps")
quantisation = ""
try:
    import bitsandbytes
    lacking = [d for d in devices if d not in getattr(bitsandbytes, "supported_torch_devices", {"cuda"})]
    if lacking:
        quantisation = bitsandbytes.__version__ + " has no code for " + ", ".join(lacking)
except Exception as e:
    quantisation = str(e).splitlines()[0]
print(json.dumps({"devices": devices, "fault": fault, "quantisation": quantisation, "packages": {m.__name__: m.__version__ for m in (torch, transformers, peft, accelerate, safetensors)}}))`

// verify fills in what the environment can do and makes a step of training on
// each of its devices.
func verify(ctx context.Context, home string, m *contract.EngineManifest, o Options) error {
	o.Say("verifying: import torch, transformers, peft")
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, m.Python, "-c", probe)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return fmt.Errorf("engine install: the environment does not work: %w: %s", err, lines[len(lines)-1])
	}
	var seen struct {
		Devices             []string
		Fault, Quantisation string
		Packages            map[string]string
	}
	if err := json.Unmarshal(out, &seen); err != nil {
		return fmt.Errorf("engine install: the environment's answer cannot be read: %w", err)
	}
	m.Devices, m.Packages = seen.Devices, seen.Packages
	if seen.Fault != "" && m.Accelerator != "cpu" && m.Accelerator != "mps" {
		m.Notes = append(m.Notes, "torch sees no CUDA device: "+seen.Fault)
	}
	if seen.Quantisation != "" {
		m.Notes = append(m.Notes, "no quantised base: bitsandbytes: "+seen.Quantisation)
	}
	scratch, err := os.MkdirTemp(home, ".verify-")
	if err != nil {
		return fmt.Errorf("engine install: %w", err)
	}
	defer os.RemoveAll(scratch)
	for _, device := range m.Devices {
		o.Say("verifying: a step of training on " + device)
		if err := step(ctx, scratch, *m, device); err != nil {
			return fmt.Errorf("engine install: a step of training on %s: %w", device, err)
		}
	}
	return nil
}

// step trains a tiny model for two steps: the first must lower the loss of the
// second.
func step(ctx context.Context, scratch string, m contract.EngineManifest, device string) (err error) {
	shape := model.Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", HiddenAct: "silu",
		HiddenSize: 64, IntermediateSize: 96, NumLayers: 2, NumHeads: 4, NumKVHeads: 2, HeadDim: 16,
		VocabSize: 64, MaxPositions: 32, RMSNormEps: 1e-5, RopeTheta: 10000, TieWordEmbeddings: true,
	}
	dir := filepath.Join(scratch, "model-"+device)
	if err := writeModel(dir, shape); err != nil {
		return err
	}
	c := contract.Config{}.WithDefaults().Training
	c.Method, c.Rank, c.Alpha, c.TargetModules, c.LearningRate = "lora", 4, 8, []string{"all-linear"}, 0.01
	s := engine.Spec{ModelName: "verify", ModelDir: dir, Shape: shape, Training: c, Seed: 1, ScratchDir: scratch}
	if device != "cpu" {
		s.Devices.GPUs = []int{0}
	}
	e, err := peft.OpenWith(ctx, s, m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	batch := []model.Sequence{{Tokens: []int32{1, 2, 3, 4, 5, 6, 7, 8}, Weights: []float32{0, 0, 1, 1, 1, 1, 1, 1}}}
	var losses []float64
	for i := range 3 {
		u, err := e.Step(engine.Step{Micro: [][]model.Sequence{batch}, FirstMicro: uint64(i), Rate: 0.01, MaxNorm: 1})
		if err != nil {
			return err
		}
		losses = append(losses, u.LossSum)
	}
	if last := losses[len(losses)-1]; math.IsNaN(last) || !(last < losses[0]) {
		return fmt.Errorf("the losses are %v: they should fall", losses)
	}
	return nil
}

func writeModel(dir string, shape model.Config) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.Marshal(shape)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644); err != nil {
		return err
	}
	m, err := model.NewRandom(shape, 1)
	if err != nil {
		return err
	}
	var infos []weights.TensorInfo
	for _, spec := range shape.Tensors() {
		infos = append(infos, weights.TensorInfo{Name: spec.Name, DType: weights.F32, Shape: spec.Shape})
	}
	return weights.WriteFloats(filepath.Join(dir, weights.SingleName), infos, func(name string) ([]float32, error) {
		_, values, err := m.MergedTensor(name)
		return values, err
	})
}
