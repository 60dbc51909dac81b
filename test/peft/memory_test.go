package peft_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/engine/peft"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/plan"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// band is how far the estimate may be from the measured peak.
const band = 0.2

// wide is a shape unlike SmolLM2's: few wide layers, a small vocabulary, a head of its
// own.
func wide() model.Config {
	c := llama()
	c.HiddenSize, c.IntermediateSize, c.NumLayers, c.NumHeads, c.NumKVHeads, c.HeadDim = 1024, 2816, 8, 16, 8, 64
	c.VocabSize, c.MaxPositions, c.TieWordEmbeddings = 16384, 2048, false
	return c
}

// What the plan says that a training on the CPU takes is compared with the peak of
// the processes that train: resident memory, torch included, all workers, after two
// steps over rows of unequal length, all of whose tokens are targets.
func TestTheEstimateOfPeftsMemoryAgreesWithThePeak(t *testing.T) {
	env := installed(t)
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc for the processes' peak memory")
	}
	shapes := map[string]model.Config{"SmolLM2-135M": smol(), "wide": wide()}
	folders := map[string]string{}
	for name, shape := range shapes {
		folders[name] = t.TempDir()
		writeModel(t, folders[name], shape)
	}
	for _, c := range []struct {
		shape, training string
		rows, length    int
		recompute       bool
	}{
		{"SmolLM2-135M", `"base_precision":"f32"`, 4, 128, false},
		{"SmolLM2-135M", `"base_precision":"int8"`, 4, 128, false},
		{"SmolLM2-135M", `"base_precision":"int4"`, 4, 128, false},
		{"SmolLM2-135M", `"base_precision":"f32"`, 8, 128, true},
		{"SmolLM2-135M", `"method":"full"`, 4, 128, false},
		{"wide", `"base_precision":"bf16"`, 4, 256, false},
		{"wide", `"base_precision":"f32"`, 4, 512, false},
		{"wide", `"base_precision":"f32","dropout":0.1`, 4, 256, false},
		{"wide", `"base_precision":"int4"`, 2, 1024, false},
		{"wide", `"base_precision":"f32","workers":2`, 4, 256, false},
		{"wide", `"base_precision":"f32","workers":2,"sharding":"fsdp"`, 4, 256, false},
	} {
		name := fmt.Sprintf("%s %s %dx%d", c.shape, strings.NewReplacer(`"base_precision":`, "", `"`, "", ",", " ").Replace(c.training), c.rows, c.length)
		if c.recompute {
			name += " recomputed"
		}
		t.Run(name, func(t *testing.T) {
			shape := shapes[c.shape]
			config, err := contract.ParseConfig([]byte(`{"training":{"batch_size":`+strconv.Itoa(c.rows)+`,`+c.training+`}}`), true)
			if err != nil {
				t.Fatal(err)
			}
			training := config.WithDefaults().Training
			settled, err := plan.Settle(training, planShape(shape), plan.Machine{Torch: plan.TorchOn("cpu", false, training)}, plan.Data{Length: c.length})
			if err != nil {
				t.Fatal(err)
			}
			run := settled.Run
			run.Recompute = c.recompute
			estimate := plan.MemoryOf(planShape(shape), run)
			e, err := peft.OpenWith(t.Context(), engine.Spec{ModelName: "m", ModelDir: folders[c.shape], Shape: shape, Training: settled.Training,
				Seed: 1, ScratchDir: t.TempDir(), Recompute: c.recompute}, env)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			rng := rand.New(rand.NewPCG(3, 3))
			for i := range uint64(2) { // the optimizer's moments come with the first
				step := engine.Step{Micro: [][]model.Sequence{ragged(rng, c.rows, c.length, shape.VocabSize)}, FirstMicro: i, Rate: 1e-4, MaxNorm: 1}
				if _, err := e.Step(step); err != nil {
					t.Fatal(err)
				}
			}
			measured := peakOfChildren(t)
			off := float64(estimate.Total())/float64(measured) - 1
			t.Logf("estimated %d MiB, measured %d MiB: %+.1f %%; %+v", estimate.Total()>>20, measured>>20, 100*off, estimate.Parts)
			if off < -band || off > band {
				t.Errorf("the estimate of %s is off by %+.1f %%; the peak was %s", plan.Bytes(estimate.Total()), 100*off, plan.Bytes(measured))
			}
		})
	}
}

// Activations that are computed twice are the same bits, dropout's choices included,
// over a base in F32 and over quantised ones.
func TestRecomputedActivationsAreTheSameBits(t *testing.T) {
	env := installed(t)
	shape := llama()
	dir := t.TempDir()
	writeModel(t, dir, shape)
	for _, precision := range []string{"f32", "int8", "int4"} {
		t.Run(precision, func(t *testing.T) {
			losses := map[bool][]float64{}
			for _, recompute := range []bool{false, true} {
				config, err := contract.ParseConfig([]byte(`{"training":{"dropout":0.1,"base_precision":"`+precision+`"}}`), true)
				if err != nil {
					t.Fatal(err)
				}
				e, err := peft.OpenWith(t.Context(), engine.Spec{ModelName: "m", ModelDir: dir, Shape: shape, Training: config.WithDefaults().Training,
					Seed: 1, ScratchDir: t.TempDir(), Recompute: recompute}, env)
				if err != nil {
					t.Fatal(err)
				}
				defer e.Close()
				rng := rand.New(rand.NewPCG(4, 4))
				for i := range uint64(5) {
					u, err := e.Step(engine.Step{Micro: [][]model.Sequence{ragged(rng, 4, 24, shape.VocabSize)}, FirstMicro: i, Rate: 0.01, MaxNorm: 1})
					if err != nil {
						t.Fatal(err)
					}
					losses[recompute] = append(losses[recompute], u.LossSum, u.Norm)
				}
			}
			if !slices.Equal(losses[false], losses[true]) {
				t.Errorf("losses and norms\n%v kept, and\n%v recomputed", losses[false], losses[true])
			}
		})
	}
}

// planShape reads a model's shape as the control plane does.
func planShape(c model.Config) plan.Shape {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	s, err := plan.ParseShape(data)
	if err != nil {
		panic(err)
	}
	return s
}

// ragged are rows of random tokens, the first as long as given, the others a little
// shorter, so that a mask is needed.
func ragged(rng *rand.Rand, rows, length, vocab int) []model.Sequence {
	list := make([]model.Sequence, rows)
	for i := range list {
		for range length - i%3 {
			list[i].Tokens = append(list[i].Tokens, int32(rng.IntN(vocab)))
			list[i].Weights = append(list[i].Weights, 1)
		}
	}
	return list
}

// writeModel writes random weights in BF16, as most models are stored.
func writeModel(t testing.TB, dir string, shape model.Config) {
	t.Helper()
	described, err := json.Marshal(shape)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), described, 0o600); err != nil {
		t.Fatal(err)
	}
	var infos []weights.TensorInfo
	lengths := map[string]int{}
	for _, s := range shape.Tensors() {
		infos = append(infos, weights.TensorInfo{Name: s.Name, DType: weights.BF16, Shape: s.Shape})
		lengths[s.Name] = s.Len()
	}
	rng := rand.New(rand.NewPCG(1, 2))
	err = weights.WriteFloats(filepath.Join(dir, weights.SingleName), infos, func(name string) ([]float32, error) {
		values := make([]float32, lengths[name])
		for i := range values {
			values[i] = 0.04 * (rng.Float32() - 0.5)
		}
		return values, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// peakOfChildren adds up the peaks of resident memory of all processes that this one
// has started, and of theirs.
func peakOfChildren(t *testing.T) int64 {
	t.Helper()
	parent, peak := map[int]int{}, map[int]int64{}
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		for line := range strings.Lines(string(data)) {
			key, rest, _ := strings.Cut(line, ":")
			switch fields := strings.Fields(rest); key {
			case "PPid":
				parent[pid], _ = strconv.Atoi(fields[0])
			case "VmHWM":
				kib, _ := strconv.ParseInt(fields[0], 10, 64)
				peak[pid] = kib << 10
			}
		}
	}
	var total int64
	for pid, bytes := range peak {
		for p := parent[pid]; p > 1; p = parent[p] {
			if p == os.Getpid() {
				total += bytes
				break
			}
		}
	}
	return total
}
