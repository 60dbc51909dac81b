package training_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/plan"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/training"
)

// rows makes samples of one length whose second half is the answer.
func rows(n, length, vocab int) []byte {
	rng := rand.New(rand.NewPCG(3, 3))
	var out []byte
	for i := range n {
		s := sample.Sample{Row: int64(i + 2), PromptTokens: length / 2, Loss: [][2]int{{length / 2, length}}}
		for range length {
			s.Tokens = append(s.Tokens, int32(rng.IntN(vocab)))
		}
		out = sample.Append(out, &s)
	}
	return out
}

// The estimate is compared with the peak memory of a process that does the
// training: VmHWM, mapped weights included.
func TestTheEstimateOfTheMemoryAgreesWithThePeak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc for the process's peak memory")
	}
	if os.Getenv("TUNEMESH_SLOW") == "" {
		t.Skip("takes minutes, and is of use only without the race detector, which takes memory of its own: set TUNEMESH_SLOW=1")
	}
	tests := []struct {
		name, training string
		recompute      bool
	}{
		{"LoRA", `"base_precision":"bf16"`, false},
		{"LoRA on f32", `"base_precision":"f32"`, false},
		{"LoRA on 4 bits", `"base_precision":"int4"`, false},
		{"LoRA on 8 bits with dropout", `"base_precision":"int8","dropout":0.1`, false},
		{"a small micro-batch", `"base_precision":"bf16","batch_size":2`, false},
		{"a high rank", `"base_precision":"bf16","rank":256,"batch_size":1`, false},
		{"packed by tokens", `"base_precision":"bf16","batch_size":1,"gradient_accumulation":16,"packing_tokens":1024`, false},
		{"full training", `"method":"full","batch_size":2`, false},
		{"activations computed twice", `"base_precision":"bf16"`, true},
	}
	shape := tinyShape()
	shape.HiddenSize, shape.IntermediateSize, shape.NumLayers, shape.NumHeads, shape.NumKVHeads, shape.HeadDim = 512, 1408, 8, 8, 4, 64
	shape.VocabSize, shape.MaxPositions = 16384, 512
	const length = 128
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			settings := `{"model":"m","export":{"skip_merged":true},"training":{"max_steps":1,"load_best":false,` + c.training + `}}`
			in := jobWith(t, settings, shape, rows(16, length, shape.VocabSize), rows(2, length, shape.VocabSize))
			if c.recompute {
				// As much as it takes with the activations computed twice, and no more.
				in.Devices.MemoryBytes = 270 << 20
				in.Config = []byte(strings.Replace(string(in.Config), `"max_steps"`, `"batch_size":8,"max_steps"`, 1))
			}
			peak := filepath.Join(t.TempDir(), "status")
			t.Setenv(peakFile, peak)
			p := start(t, in)
			var estimate int64
			for p.out.Scan() {
				if m := estimated.FindSubmatch(p.out.Bytes()); m != nil {
					estimate, _ = strconv.ParseInt(string(m[1]), 10, 64)
				}
				if c.recompute && strings.Contains(p.out.Text(), "RESERVATION_TOO_SMALL") {
					t.Fatal(p.out.Text())
				}
			}
			if r, err := p.wait(t); err != nil {
				t.Fatalf("%v: %+v", err, r.Error)
			}
			status, err := os.ReadFile(peak)
			if err != nil {
				t.Fatal(err)
			}
			m := peakLine.FindSubmatch(status)
			if m == nil || estimate == 0 {
				t.Fatalf("peak %q, estimate %d", m, estimate)
			}
			kib, _ := strconv.ParseInt(string(m[1]), 10, 64)
			off := float64(estimate)/float64(kib<<10) - 1
			t.Logf("estimated %s, measured %s: %+.0f %%", plan.Bytes(estimate), plan.Bytes(kib<<10), 100*off)
			if off < -0.2 || off > 0.2 {
				t.Errorf("the estimate of %s is off by %+.0f %%; the peak was %s", plan.Bytes(estimate), 100*off, plan.Bytes(kib<<10))
			}
		})
	}
}

var peakLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// BenchmarkPrecisionOfTheBase is a training of SmolLM2-135M's shape, LoRA r=16 on
// all linear layers, 4 x 128 tokens, in a process of its own: its peak memory and
// its speed, loading left out.
func BenchmarkPrecisionOfTheBase(b *testing.B) {
	shape := tinyShape()
	shape.HiddenSize, shape.IntermediateSize, shape.NumLayers, shape.NumHeads, shape.NumKVHeads, shape.HeadDim = 576, 1536, 30, 9, 3, 64
	shape.VocabSize, shape.MaxPositions = 49152, 8192
	in := jobWith(b, `{}`, shape, rows(64, 128, shape.VocabSize), rows(1, 128, shape.VocabSize))
	for _, p := range []string{"f32", "bf16", "int8", "int4"} {
		b.Run(p, func(b *testing.B) {
			for b.Loop() {
				in.OutputDir, in.CheckpointDir = b.TempDir(), b.TempDir()
				in.Config = []byte(`{"model":"m","export":{"skip_merged":true},"training":{"max_steps":8,"batch_size":4,"load_best":false,"base_precision":"` + p + `"}}`)
				peak := filepath.Join(in.OutputDir, "status")
				b.Setenv(peakFile, peak)
				r, err := start(b, in).wait(b)
				if err != nil {
					b.Fatalf("%v: %+v", err, r.Error)
				}
				status, _ := os.ReadFile(peak)
				if m := peakLine.FindSubmatch(status); m != nil {
					kib, _ := strconv.ParseFloat(string(m[1]), 64)
					b.ReportMetric(kib/1024, "peak-MiB")
				}
				b.ReportMetric(r.Metrics["tokens_per_sec"], "tokens/s")
			}
		})
	}
}

var estimated = regexp.MustCompile(`"estimated_bytes":(\d+)`)

// What does not fit is refused before anything is loaded, with what would fit.
func TestATrainingThatDoesNotFitIsRefused(t *testing.T) {
	shape := tinyShape()
	shape.MaxPositions, shape.IntermediateSize = 512, 512
	in := jobWith(t, `{"model":"m","export":{"skip_merged":true},"training":{"batch_size":16}}`, shape, rows(24, 300, 40), rows(4, 300, 40))
	stage := training.Stage{FreeMemory: func() int64 { return 80 << 20 }}
	_, err := stage.Run(t.Context(), in, contract.NewEmitter(io.Discard, "TestAgent", time.Now))
	var e *contract.Error
	if !errors.As(err, &e) || e.Code != "DOES_NOT_FIT" || e.Class != contract.ClassResources || e.Field == "" || !strings.Contains(e.Hint, "training.batch_size=") {
		t.Errorf("%+v", err)
	}
}

// By peft it is refused too, before any Python is started: on a machine without the
// memory, or on a card without.
func TestATrainingByPeftThatDoesNotFitIsRefused(t *testing.T) {
	shape := tinyShape()
	shape.MaxPositions, shape.IntermediateSize = 512, 512
	for name, c := range map[string]struct {
		devices contract.Devices
		hint    string
	}{
		"the machine": {contract.Devices{Engine: "peft"}, "training.engine=native"},
		"a card":      {contract.Devices{Engine: "peft", GPUs: []int{0}, GPUMemoryBytes: 1 << 30}, "use a smaller model"},
	} {
		t.Run(name, func(t *testing.T) {
			in := jobWith(t, `{"model":"m","export":{"skip_merged":true},"training":{"engine":"peft"}}`, shape, rows(24, 300, 40), rows(4, 300, 40))
			in.Devices = c.devices
			stage := training.Stage{FreeMemory: func() int64 { return 800 << 20 }}
			_, err := stage.Run(t.Context(), in, contract.NewEmitter(io.Discard, "TestAgent", time.Now))
			var e *contract.Error
			if !errors.As(err, &e) || e.Code != "DOES_NOT_FIT" || !strings.Contains(e.Hint, c.hint) || !strings.Contains(e.Message, "PyTorch") {
				t.Errorf("%+v", err)
			}
		})
	}
}

// On a machine with little memory the batch becomes smaller, and a resumed
// training keeps it where there is more.
func TestAutoFollowsTheMemoryAndAResumedTrainingKeepsIt(t *testing.T) {
	config := strings.NewReplacer(`"batch_size":4,"gradient_accumulation":2,`, "").Replace(fmt.Sprintf(config, ""))
	shape := tinyShape()
	shape.MaxPositions, shape.IntermediateSize = 512, 512
	in := jobWith(t, config, shape, rows(24, 300, 40), rows(4, 300, 40))
	run := func(ctx context.Context, free int64, sink io.Writer) (contract.Result, error) {
		return training.Stage{FreeMemory: func() int64 { return free }}.Run(ctx, in, contract.NewEmitter(sink, "TestAgent", time.Now))
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := run(ctx, 75<<20, &stopAt{4, cancel}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	result, err := run(t.Context(), 0, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s := result.Output[training.OutputKey].(training.Summary)
	if s.ResumedAt != 4 || s.BatchSize >= 8 || s.BatchSize*s.GradientAccum != 8 {
		t.Errorf("%+v", s)
	}
}
