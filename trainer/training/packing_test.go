package training_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/training"
	"github.com/tunemesh/tunemesh/trainer/training/history"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// firstUpdate makes one update and returns its loss, the gradient (AdamW's first
// moment after one update is a tenth of it) and the number of micro-batches.
func firstUpdate(t *testing.T, settings string) (loss float64, gradient []float32, micros uint64) {
	t.Helper()
	in := job(t, `{"model":"tiny","export":{"skip_merged":true},"training":{"max_steps":1,"rank":4,"learning_rate":0.01,"logging_steps":1,"load_best":false,`+settings+`}}`)
	if _, _, err := stagetest.Run(t.Context(), t, training.Run, in); err != nil {
		t.Fatal(err)
	}
	log, err := history.Read(filepath.Join(in.OutputDir, history.FileName))
	if err != nil || len(log.Steps) != 1 {
		t.Fatalf("%+v, %v", log, err)
	}
	saved := filepath.Join(in.CheckpointDir, "epoch_1")
	f, err := weights.Open(filepath.Join(saved, engine.OptimizerFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range f.Names() {
		if strings.HasPrefix(name, "exp_avg/") {
			values, _, err := f.Float32(name)
			if err != nil {
				t.Fatal(err)
			}
			gradient = append(gradient, values...)
		}
	}
	var state training.State
	data, err := os.ReadFile(filepath.Join(saved, "state.json"))
	if err != nil || json.Unmarshal(data, &state) != nil {
		t.Fatal(err)
	}
	return log.Steps[0].Loss, gradient, state.Micro
}

// Packing changes how many micro-batches there are, and not what they add up to.
func TestAPackedStepIsTheSameUpdate(t *testing.T) {
	for _, method := range methods {
		const step = `"batch_size":1,"gradient_accumulation":24`
		loss, gradient, micros := firstUpdate(t, method+step)
		packedLoss, packed, packedMicros := firstUpdate(t, method+step+`,"packing_tokens":64`)
		if micros != 24 || packedMicros < 2 || packedMicros > 6 {
			t.Errorf("%s %d micro-batches, packed %d", method, micros, packedMicros)
		}
		if off := math.Abs(packedLoss/loss - 1); off > 1e-5 {
			t.Errorf("%s the loss is off by %g: %v, packed %v", method, off, loss, packedLoss)
		}
		var apart, size float64
		for i, g := range gradient {
			apart += float64(packed[i]-g) * float64(packed[i]-g)
			size += float64(g) * float64(g)
		}
		off := math.Sqrt(apart / size)
		t.Logf("%s %d micro-batches, packed %d; gradients %.1g apart", method, micros, packedMicros, off)
		if off > 1e-5 || size == 0 {
			t.Errorf("%s the gradients are %g of their length apart", method, off)
		}
	}
}

// mixedRows are short samples and one long one in ten.
func mixedRows(n, short, long, vocab int) []byte {
	rng := rand.New(rand.NewPCG(4, 4))
	var out []byte
	for i := range n {
		length := short/2 + rng.IntN(short)
		if i%10 == 0 {
			length = long
		}
		s := sample.Sample{Row: int64(i + 2), PromptTokens: length / 2, Loss: [][2]int{{length / 2, length}}}
		for range length {
			s.Tokens = append(s.Tokens, int32(rng.IntN(vocab)))
		}
		out = sample.Append(out, &s)
	}
	return out
}

// With little memory short samples are packed, which the stage says; a resumed
// training keeps to it on a machine with more, to the same bits.
func TestAResumedTrainingKeepsItsPacking(t *testing.T) {
	shape := tinyShape()
	shape.MaxPositions, shape.IntermediateSize = 512, 512
	settings := `{"model":"m","export":{"skip_merged":true},"training":{"epochs":2,"dropout":0.1,"rank":4,"logging_steps":1}}`
	run := func(ctx context.Context, in contract.Input, free int64, sink io.Writer) (contract.Result, error) {
		return training.Stage{FreeMemory: func() int64 { return free }}.Run(ctx, in, contract.NewEmitter(sink, "TestAgent", time.Now))
	}
	const little = 80 << 20
	calm := jobWith(t, settings, shape, mixedRows(48, 20, 400, 40), mixedRows(20, 20, 400, 40))
	var said strings.Builder
	if _, err := run(t.Context(), calm, little, &said); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), "training.packing_tokens is ") {
		t.Error("nothing is said of packing")
	}
	in := jobWith(t, settings, shape, mixedRows(48, 20, 400, 40), mixedRows(20, 20, 400, 40))
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := run(ctx, in, little, &stopAt{4, cancel}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	result, err := run(t.Context(), in, 0, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s := result.Output[training.OutputKey].(training.Summary)
	if s.ResumedAt != 4 || s.BatchSize != 8 || s.PackingTokens == 0 {
		t.Errorf("%+v", s)
	}
	if string(weightsOf(t, in)) != string(weightsOf(t, calm)) {
		t.Error("the weights differ from those of an undisturbed training")
	}
}

// BenchmarkPacking trains in a process of its own, a step of 32 samples: on short
// samples one by one, and packed; on samples of which one in ten is long two by two,
// as where more of the longest do not fit, and packed into as many tokens, which
// takes no more memory. Processor time is that of the whole process.
func BenchmarkPacking(b *testing.B) {
	shape := tinyShape()
	shape.HiddenSize, shape.IntermediateSize, shape.NumLayers, shape.NumHeads, shape.NumKVHeads, shape.HeadDim = 576, 1536, 6, 9, 3, 64
	shape.VocabSize, shape.MaxPositions = 16384, 2048
	for _, c := range []struct {
		name, settings string
		long           int
	}{
		{"short/one-by-one", `"batch_size":1,"gradient_accumulation":32`, 30},
		{"short/packed", `"batch_size":1,"gradient_accumulation":32,"packing_tokens":512`, 30},
		{"mixed/two-by-two", `"batch_size":2,"gradient_accumulation":16`, 256},
		{"mixed/packed", `"batch_size":2,"gradient_accumulation":16,"packing_tokens":512`, 256},
	} {
		b.Run(c.name, func(b *testing.B) {
			settings := `{"model":"m","export":{"skip_merged":true},"training":{"max_steps":10,"load_best":false,` + c.settings + `}}`
			in := jobWith(b, settings, shape, mixedRows(320, 24, c.long, shape.VocabSize), mixedRows(2, 24, c.long, shape.VocabSize))
			for b.Loop() {
				in.OutputDir, in.CheckpointDir = b.TempDir(), b.TempDir()
				p := start(b, in)
				r, err := p.wait(b)
				if err != nil {
					b.Fatalf("%v: %+v", err, r.Error)
				}
				b.ReportMetric(r.Metrics["tokens_per_sec"], "tokens/s")
				b.ReportMetric(p.cmd.ProcessState.UserTime().Seconds(), "user-s")
			}
		})
	}
}
