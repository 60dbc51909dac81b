package model_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/kernel"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/optim"
)

func optimiser(t *testing.T, m *model.Model) *optim.AdamW {
	t.Helper()
	o, err := optim.NewAdamW(optimTensors(m), optim.DefaultAdamW())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func optimTensors(m *model.Model) []optim.Tensor {
	var list []optim.Tensor
	for _, p := range m.Params() {
		list = append(list, optim.Tensor{Name: p.Name, Data: p.Data, Grad: p.Grad, NoDecay: p.Norm})
	}
	return list
}

// train takes steps first..last-1 on batches that depend on the step only.
func train(t *testing.T, m *model.Model, o *optim.AdamW, first, last int) {
	t.Helper()
	for step := first; step < last; step++ {
		m.ZeroGrad()
		m.SetStep(uint64(step))
		_, n, err := m.LossAndGrad(rowsOf(m.Config().VocabSize, uint64(step), 19, 7, 30))
		if err != nil {
			t.Fatal(err)
		}
		optim.ScaleAndClip(optimTensors(m), 1/float64(n), 1)
		o.Step(1e-2)
	}
}

func values(m *model.Model) []float32 {
	var all []float32
	for _, p := range m.Params() {
		all = append(all, p.Data...)
	}
	return all
}

// midsize is large enough for several tiles and tasks per product.
func midsize() model.Config {
	c := tiny(true)
	c.HiddenSize, c.IntermediateSize, c.NumHeads, c.NumKVHeads, c.HeadDim, c.VocabSize = 96, 200, 6, 3, 16, 500
	return c
}

func withLoRA(t *testing.T, cfg model.Config, dropout float64) *model.Model {
	t.Helper()
	m := lively(t, cfg, 21)
	if err := m.AddLoRA(model.LoRAConfig{Rank: 4, Alpha: 8, Dropout: dropout, TargetModules: []string{"all-linear"}}, 22); err != nil {
		t.Fatal(err)
	}
	return m
}

// llama3's scaling leaves wavelengths alone that are short beside the original
// context, and stretches the others.
func TestScaledRotaryFrequenciesChangeLongDistancesOnly(t *testing.T) {
	cfg := tiny(true)
	plain := lively(t, cfg, 3)
	cfg.RopeScaling = &model.RopeScaling{Kind: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositions: 1 << 20}
	same := lively(t, cfg, 3) // every wavelength is short beside 2^20 positions
	cfg.RopeScaling = &model.RopeScaling{Kind: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositions: 8}
	other := lively(t, cfg, 3)
	cfg.RopeScaling = &model.RopeScaling{Kind: "linear", Factor: 8}
	linear := lively(t, cfg, 3)
	var loss []float64
	for _, m := range []*model.Model{plain, same, other, linear} {
		sum, _, err := m.Loss(rowsOf(37, 5, 30))
		if err != nil {
			t.Fatal(err)
		}
		loss = append(loss, sum)
	}
	if loss[0] != loss[1] || loss[0] == loss[2] || loss[0] == loss[3] || loss[2] == loss[3] {
		t.Errorf("losses %v: want the first two equal, the others not", loss)
	}
}

// With dropout the loss of a step is still one fixed function of the weights;
// its slope along the gradient must be the gradient's length.
func TestDropoutGradientIsTheSlopeOfTheSameMask(t *testing.T) {
	m := withLoRA(t, midsize(), 0.3)
	for _, p := range m.Params() {
		for i := range p.Data {
			p.Data[i] = 0.05 * float32(math.Sin(float64(i)))
		}
	}
	batch := rowsOf(500, 4, 31, 12)
	m.SetStep(17)
	loss := func() float64 {
		sum, _, err := m.LossAndGrad(batch)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	base := loss()
	var grads [][]float32
	var norm float64
	for _, p := range m.Params() {
		grads = append(grads, slices.Clone(p.Grad))
		for _, g := range p.Grad {
			norm += float64(g) * float64(g)
		}
	}
	norm = math.Sqrt(norm)
	move := func(by float64) {
		for i, p := range m.Params() {
			for j, g := range grads[i] {
				p.Data[j] += float32(by * float64(g) / norm)
			}
		}
	}
	const h = 2e-3
	move(h)
	up := loss()
	move(-2 * h)
	down := loss()
	if slope := (up - down) / (2 * h); math.Abs(slope-norm) > 5e-3*norm {
		t.Errorf("slope %.5f, gradient's length %.5f", slope, norm)
	}
	move(h)
	m.SetStep(18)
	if other := loss(); math.Abs(other-base) < 1e-6 {
		t.Error("another step dropped the same values")
	}
	if plain, _, _ := m.Loss(batch); math.Abs(plain-base) < 1e-6 {
		t.Error("dropout changed nothing")
	}
}

// The whole loop, end to end: an untrained model learns two sentences by heart
// and then says them.
func TestTrainingLearnsAndGenerationRecallsIt(t *testing.T) {
	for _, e := range []*kernel.Engine{kernel.New(kernel.Pure), kernel.New(kernel.Best())} {
		cfg := tiny(true)
		cfg.HiddenSize, cfg.IntermediateSize = 24, 48
		m, err := model.NewRandom(cfg, 1)
		if err != nil {
			t.Fatal(err)
		}
		m.SetEngine(e)
		if err := m.TrainAll(); err != nil {
			t.Fatal(err)
		}
		batch := rowsOf(37, 9, 14, 11)
		for _, s := range batch {
			s.Tokens[len(s.Tokens)-1] = 36 // the end
			for j := range s.Weights {
				s.Weights[j] = 0
				if j >= 3 {
					s.Weights[j] = 1
				}
			}
		}
		o := optimiser(t, m)
		var mean float64
		for range 120 {
			m.ZeroGrad()
			sum, n, err := m.LossAndGrad(batch)
			if err != nil {
				t.Fatal(err)
			}
			mean = sum / float64(n)
			optim.ScaleAndClip(optimTensors(m), 1/float64(n), 1)
			o.Step(1e-2)
		}
		if mean > 0.05 {
			t.Errorf("%v: mean loss still %.3f", e.ISA(), mean)
		}
		for _, s := range batch {
			got, err := m.NewSession().Greedy(s.Tokens[:3], 30, []int32{36})
			if err != nil {
				t.Fatal(err)
			}
			if want := s.Tokens[3 : len(s.Tokens)-1]; !slices.Equal(got, want) {
				t.Errorf("%v: recalled %v, want %v", e.ISA(), got, want)
			}
		}
	}
}

func TestLoRABeginsAsTheModelItAdapts(t *testing.T) {
	m := lively(t, midsize(), 31)
	batch := rowsOf(500, 6, 25)
	before, _, err := m.Loss(batch)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddLoRA(model.LoRAConfig{Rank: 4, Alpha: 8, TargetModules: []string{"q_proj", "down_proj"}}, 1); err != nil {
		t.Fatal(err)
	}
	after, _, err := m.Loss(batch)
	if err != nil {
		t.Fatal(err)
	}
	if before != after {
		t.Errorf("loss %v became %v", before, after)
	}
	var names []string
	for _, p := range m.Params() {
		names = append(names, p.Name)
		low, high := slices.Min(p.Data), slices.Max(p.Data)
		if strings.HasSuffix(p.Name, "lora_B.weight") {
			if low != 0 || high != 0 {
				t.Errorf("%s begins with values in [%g, %g]", p.Name, low, high)
			}
			continue
		}
		if bound := float32(1 / math.Sqrt(float64(p.Shape[1]))); low < -bound || high > bound || low > -0.9*bound || high < 0.9*bound {
			t.Errorf("%s: values in [%g, %g], want uniform in ±%g", p.Name, low, high, bound)
		}
	}
	want := []string{
		"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
		"base_model.model.model.layers.0.mlp.down_proj.lora_A.weight", "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight",
	}
	if len(names) != 8 || !slices.Equal(names[:4], want) {
		t.Errorf("parameters %v", names)
	}
}

func TestAMergedModelComputesWhatTheAdapterComputes(t *testing.T) {
	m := withLoRA(t, midsize(), 0)
	stir(m, 8)
	batch := rowsOf(500, 7, 25, 9)
	want, _, err := m.Loss(batch)
	if err != nil {
		t.Fatal(err)
	}
	src := mapSource{}
	for _, spec := range m.Config().Tensors() {
		shape, data, err := m.MergedTensor(spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		src[spec.Name] = f32Tensor(shape, data)
	}
	merged, err := model.Load(m.Config(), src)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := merged.Loss(batch)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(got-want) > 1e-4*want {
		t.Errorf("merged %.6f, adapter %.6f", got, want)
	}
}
