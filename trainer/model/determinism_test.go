package model_test

import (
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/kernel"
	"github.com/tunemesh/tunemesh/trainer/model"
)

// What must not depend on how the work is cut: processors, instruction sets,
// interruptions, batches and chunks.

func TestTrainingGivesTheSameBitsOnAnyNumberOfProcessors(t *testing.T) {
	for _, mode := range []string{"lora", "full"} {
		var first []float32
		for _, procs := range []int{1, 2, 3} {
			old := runtime.GOMAXPROCS(procs)
			var m *model.Model
			if mode == "lora" {
				m = withLoRA(t, midsize(), 0.1)
			} else {
				m = lively(t, midsize(), 21)
				if err := m.TrainAll(); err != nil {
					t.Fatal(err)
				}
			}
			train(t, m, optimiser(t, m), 0, 3)
			runtime.GOMAXPROCS(old)
			if first == nil {
				first = values(m)
			}
			if !slices.Equal(first, values(m)) {
				t.Errorf("%s: GOMAXPROCS=%d ends with other bits", mode, procs)
			}
		}
	}
}

// A checkpoint may move between machines: the two instruction sets of amd64
// compute the same bits.
func TestTrainingGivesTheSameBitsOnAVX2AndAVX512(t *testing.T) {
	if kernel.Best() < kernel.AVX512 {
		t.Skip("this processor has no AVX-512")
	}
	run := func(isa kernel.ISA) []float32 {
		m := withLoRA(t, midsize(), 0)
		m.SetEngine(kernel.New(isa))
		train(t, m, optimiser(t, m), 0, 3)
		return values(m)
	}
	if !slices.Equal(run(kernel.AVX2), run(kernel.AVX512)) {
		t.Error("other bits")
	}
}

func TestAResumedTrainingEqualsAnUninterruptedOne(t *testing.T) {
	whole := withLoRA(t, midsize(), 0.2)
	train(t, whole, optimiser(t, whole), 0, 6)

	first := withLoRA(t, midsize(), 0.2)
	o := optimiser(t, first)
	train(t, first, o, 0, 4)
	second := withLoRA(t, midsize(), 0.2) // another process: only Params and State come along
	for i, p := range second.Params() {
		copy(p.Data, first.Params()[i].Data)
	}
	resumed := optimiser(t, second)
	if err := resumed.Restore(o.State()); err != nil {
		t.Fatal(err)
	}
	train(t, second, resumed, 4, 6)
	if !slices.Equal(values(whole), values(second)) {
		t.Error("the resumed run ended with other bits")
	}
}

func TestRecomputingGivesTheSameBits(t *testing.T) {
	checkRecomputing(t, "midsize", midsize())
	for name, cfg := range families() {
		cfg.VocabSize = 500
		checkRecomputing(t, name, cfg)
	}
}

func checkRecomputing(t *testing.T, name string, cfg model.Config) {
	grads := func(recompute bool) []float32 {
		m := withLoRA(t, cfg, 0.1)
		stir(m, 4)
		m.SetRecompute(recompute)
		if _, _, err := m.LossAndGrad(rowsOf(500, 1, 20, 33)); err != nil {
			t.Fatal(err)
		}
		var all []float32
		for _, p := range m.Params() {
			all = append(all, p.Grad...)
		}
		return all
	}
	if !slices.Equal(grads(false), grads(true)) {
		t.Errorf("%s: recomputed activations gave other gradients", name)
	}
}

// Rows share nothing: packed together they give what they give alone.
func TestRowsOfABatchDoNotSeeEachOther(t *testing.T) {
	m := withLoRA(t, midsize(), 0)
	stir(m, 5)
	batch := rowsOf(500, 2, 20, 1, 33, 8)
	all, _, err := m.Loss(batch)
	if err != nil {
		t.Fatal(err)
	}
	scores, err := m.BatchLogprobs(batch)
	if err != nil {
		t.Fatal(err)
	}
	var sum, scored float64
	for i, s := range batch {
		one, n, err := m.Loss([]model.Sequence{s})
		if err != nil {
			t.Fatal(err)
		}
		if len(scores[i]) != n {
			t.Errorf("row %d has %d scores for %d targets", i, len(scores[i]), n)
		}
		for j := 1; j < len(s.Tokens); j++ {
			if w := s.Weights[j]; w != 0 {
				scored -= float64(w) * scores[i][0]
				scores[i] = scores[i][1:]
			}
		}
		sum += one
	}
	if math.Abs(all-scored) > 1e-9*all {
		t.Errorf("loss %.9f, from scores %.9f", all, scored)
	}
	if math.Abs(all-sum) > 1e-5*all {
		t.Errorf("together %.9f, alone %.9f", all, sum)
	}
}

// A vocabulary so large that the logits of a batch never exist at one time.
func TestTheHeadWorksInChunks(t *testing.T) {
	cfg := tiny(true)
	cfg.HiddenSize, cfg.IntermediateSize, cfg.NumHeads, cfg.NumKVHeads, cfg.HeadDim, cfg.NumLayers = 8, 8, 2, 1, 4, 1
	cfg.VocabSize = 270_000 // 16 targets at a time
	m := lively(t, cfg, 1)
	if err := m.TrainAll(); err != nil {
		t.Fatal(err)
	}
	row := rowsOf(cfg.VocabSize, 2, 45)[0]
	targets := func(from, to int) []model.Sequence {
		s := model.Sequence{Tokens: row.Tokens, Weights: make([]float32, len(row.Tokens))}
		for i := from; i < to; i++ {
			s.Weights[i] = 1
		}
		return []model.Sequence{s}
	}
	run := func(parts ...[]model.Sequence) (loss float64, grads []float32) {
		m.ZeroGrad()
		for _, p := range parts {
			sum, _, err := m.LossAndGrad(p)
			if err != nil {
				t.Fatal(err)
			}
			loss += sum
		}
		for _, p := range m.Params() {
			grads = append(grads, p.Grad...)
		}
		return loss, grads
	}
	wholeLoss, whole := run(targets(1, 45))
	partsLoss, parts := run(targets(1, 11), targets(11, 25), targets(25, 40), targets(40, 45))
	if math.Abs(wholeLoss-partsLoss) > 1e-6*wholeLoss {
		t.Errorf("loss %.9f at once, %.9f in parts", wholeLoss, partsLoss)
	}
	var off, size float64
	for i, g := range whole {
		off = max(off, math.Abs(float64(g-parts[i])))
		size = max(size, math.Abs(float64(g)))
	}
	if off > 1e-5*size || size == 0 {
		t.Errorf("gradients up to %g differ by %g", size, off)
	}
}

// Two micro-batches add up to the gradient of one batch.
func TestGradientsAccumulate(t *testing.T) {
	m := withLoRA(t, midsize(), 0)
	stir(m, 6)
	batch := rowsOf(500, 3, 15, 22)
	run := func(parts ...[]model.Sequence) []float32 {
		m.ZeroGrad()
		for _, p := range parts {
			if _, _, err := m.LossAndGrad(p); err != nil {
				t.Fatal(err)
			}
		}
		return slices.Clone(m.Params()[0].Grad)
	}
	whole, parts := run(batch), run(batch[:1], batch[1:])
	for i, g := range whole {
		if d := math.Abs(float64(g - parts[i])); d > 1e-4*(1+math.Abs(float64(g))) {
			t.Fatalf("gradient %d is %g in one batch, %g in two", i, g, parts[i])
		}
	}
}
