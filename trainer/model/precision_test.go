package model_test

import (
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/model"
)

// source serves a model's weights as an F32 checkpoint.
func source(t *testing.T, m *model.Model) mapSource {
	t.Helper()
	s := mapSource{}
	for _, spec := range m.Config().Tensors() {
		shape, data, err := m.MergedTensor(spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		s[spec.Name] = f32Tensor(shape, data)
	}
	return s
}

func loadAs(t *testing.T, src model.Source, cfg model.Config, p model.Precision) *model.Model {
	t.Helper()
	m, err := model.LoadAs(cfg, src, p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The adapters' gradients on a quantized base are exact with respect to the
// weights that the codes stand for.
func TestLoRAGradientsOnAQuantizedBaseAgreeWithFiniteDifferences(t *testing.T) {
	cfg := smallest(tiny(true))
	cfg.HiddenSize, cfg.IntermediateSize, cfg.HeadDim = 36, 70, 9+1 // more than a block, and no multiple of one
	src := source(t, lively(t, cfg, 5))
	for _, p := range []model.Precision{model.Int8, model.Int4} {
		m := loadAs(t, src, cfg, p)
		if err := m.AddLoRA(model.LoRAConfig{Rank: 2, Alpha: 3, TargetModules: []string{"all-linear"}}, 6); err != nil {
			t.Fatal(err)
		}
		stir(m, 7)
		checkGradients(t, m, rowsOf(13, 8, 5, 3), 4e-5)
	}
}

// Fewer bits are further from the weights, and near them still.
func TestThePrecisionOfTheBaseMovesTheLossALittle(t *testing.T) {
	cfg := midsize()
	stored := lively(t, cfg, 3)
	for _, spec := range cfg.Tensors() { // tamer: a real model does not saturate
		if _, data, _ := stored.MergedTensor(spec.Name); len(spec.Shape) == 2 {
			for i := range data {
				data[i] /= 6
			}
		}
	}
	src, batch := source(t, stored), rowsOf(500, 1, 30, 40)
	want, targets, err := stored.Loss(batch)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p        model.Precision
		within   float64 // nats per target
		atLeast0 bool    // differs at all
	}{{model.Stored, 0, false}, {model.F32, 0, false}, {model.BF16, 0.01, true}, {model.Int8, 0.01, true}, {model.Q8, 0.01, true}, {model.Int4, 0.1, true}} {
		got, _, err := loadAs(t, src, cfg, c.p).Loss(batch)
		if err != nil {
			t.Fatal(err)
		}
		off := math.Abs(got-want) / float64(targets)
		t.Logf("%q: loss off by %.2e nats a target", c.p, off)
		if off > c.within || (off == 0) == c.atLeast0 {
			t.Errorf("%q: loss is off by %g nats a target, want at most %g", c.p, off, c.within)
		}
	}
}

func TestBF16RoundsToNearestEven(t *testing.T) {
	cfg := tiny(true)
	src := source(t, lively(t, cfg, 1))
	values := make([]float32, cfg.VocabSize*cfg.HiddenSize)
	for i, bits := range []uint32{0x3f800000, 0x3f808000, 0x3f818000, 0x3f808001, 0xbf80ffff, 0x7f7fffff} {
		values[i] = math.Float32frombits(bits)
	}
	src["model.embed_tokens.weight"] = f32Tensor([]int{cfg.VocabSize, cfg.HiddenSize}, values)
	_, got, err := loadAs(t, src, cfg, model.BF16).MergedTensor("model.embed_tokens.weight")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint32{0x3f800000, 0x3f800000, 0x3f820000, 0x3f810000, 0xbf810000, 0x7f800000} {
		if math.Float32bits(got[i]) != want {
			t.Errorf("%08x became %08x, want %08x", math.Float32bits(values[i]), math.Float32bits(got[i]), want)
		}
	}
}

type releasing struct {
	mapSource
	released []string
}

func (r *releasing) Release(name string) { r.released = append(r.released, name) }

// A source hears of each tensor whose bytes the model does not keep.
func TestBytesThatAreNotKeptAreReleased(t *testing.T) {
	cfg := tiny(false)
	for _, c := range []struct {
		dtype string
		p     model.Precision
		want  func(name string, matrix, linear bool) bool
	}{
		{"BF16", model.Stored, func(string, bool, bool) bool { return false }},
		{"F32", model.Stored, func(string, bool, bool) bool { return true }},
		{"BF16", model.Int8, func(_ string, _, linear bool) bool { return linear }},
		{"BF16", model.Q8, func(_ string, matrix, _ bool) bool { return matrix }},
		{"BF16", model.F32, func(_ string, matrix, _ bool) bool { return matrix }},
	} {
		src := &releasing{mapSource: checkpoint(cfg, c.dtype)}
		loadAs(t, src, cfg, c.p)
		for _, spec := range cfg.Tensors() {
			matrix := len(spec.Shape) == 2
			linear := matrix && spec.Name != "model.embed_tokens.weight" && spec.Name != "lm_head.weight"
			if got, want := slices.Contains(src.released, spec.Name), c.want(spec.Name, matrix, linear); got != want {
				t.Errorf("%s as %q: %s released: %v, want %v", c.dtype, c.p, spec.Name, got, want)
			}
		}
	}
}

func TestCodesCannotBeTrained(t *testing.T) {
	cfg := tiny(true)
	if err := loadAs(t, checkpoint(cfg, "BF16"), cfg, model.Int8).TrainAll(); err == nil {
		t.Error("full training on codes was accepted")
	}
}

// A session in 8 bits goes through integers token by token: its distribution of the
// next token is that of the model but for rounding, with an adapter too, and the same
// again however many processors there are.
func TestASessionInEightBitsIsNearTheModel(t *testing.T) {
	cfg := midsize()
	stored := lively(t, cfg, 3)
	for _, spec := range cfg.Tensors() {
		if _, data, _ := stored.MergedTensor(spec.Name); len(spec.Shape) == 2 {
			for i := range data {
				data[i] /= 6 // tamer: a real model does not saturate
			}
		}
	}
	src, tokens := source(t, stored), rowsOf(500, 1, 20)[0].Tokens
	adapted := func(p model.Precision) *model.Model {
		m := loadAs(t, src, cfg, p)
		if err := m.AddLoRA(model.LoRAConfig{Rank: 2, Alpha: 3, TargetModules: []string{"all-linear"}}, 6); err != nil {
			t.Fatal(err)
		}
		stir(m, 7)
		return m
	}
	write := func(m *model.Model) (all [][]float32) {
		s := m.NewSession()
		for i := range tokens {
			logits, err := s.Append(tokens[i : i+1])
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, slices.Clone(logits))
		}
		return all
	}
	want, eight := write(adapted(model.Stored)), adapted(model.Q8)
	got := write(eight)
	for i := range want {
		if kl := divergence(want[i], got[i]); !(kl > 0 && kl < 1e-2) {
			t.Errorf("after %d tokens the divergence is %.2g nats", i+1, kl)
		}
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for i, logits := range write(eight) {
		if !slices.Equal(logits, got[i]) {
			t.Fatalf("after %d tokens one processor has other logits than several", i+1)
		}
	}
}

// divergence is the Kullback-Leibler divergence of two distributions given by logits.
func divergence(p, q []float32) float64 {
	normalized := func(logits []float32) []float64 {
		sum, out := 0.0, make([]float64, len(logits))
		for _, v := range logits {
			sum += math.Exp(float64(v))
		}
		for i, v := range logits {
			out[i] = float64(v) - math.Log(sum)
		}
		return out
	}
	kl, a, b := 0.0, normalized(p), normalized(q)
	for i := range a {
		kl += math.Exp(a[i]) * (a[i] - b[i])
	}
	return kl
}
