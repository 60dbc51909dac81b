package model_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/model"
)

// tiny is small enough for finite differences over every element, with odd
// sizes so that no kernel gets away with whole tiles.
func tiny(tied bool) model.Config {
	return model.Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", HiddenAct: "silu",
		HiddenSize: 20, IntermediateSize: 26, NumLayers: 2, NumHeads: 4, NumKVHeads: 2, HeadDim: 6,
		VocabSize: 37, MaxPositions: 64, RMSNormEps: 1e-5, RopeTheta: 10000, TieWordEmbeddings: tied,
	}
}

// families are the tiny shape in every architecture, with windows that are shorter
// than the rows.
func families() map[string]model.Config {
	window := 4
	of := func(name, kind string, change func(c *model.Config)) model.Config {
		c := tiny(true)
		c.Architectures, c.ModelType = []string{name}, kind
		change(&c)
		return c
	}
	return map[string]model.Config{
		"llama":          tiny(true),
		"mistral":        of("MistralForCausalLM", "mistral", func(c *model.Config) { c.TieWordEmbeddings = false }),
		"mistral-window": of("MistralForCausalLM", "mistral", func(c *model.Config) { c.SlidingWindow, c.HeadDim = &window, 8 }),
		"qwen2":          of("Qwen2ForCausalLM", "qwen2", func(c *model.Config) {}),
		"qwen3":          of("Qwen3ForCausalLM", "qwen3", func(c *model.Config) { c.HeadDim = 8 }),
		"gemma3": of("Gemma3ForCausalLM", "gemma3_text", func(c *model.Config) {
			c.HiddenAct, c.HeadDim, c.SlidingWindow = "gelu_pytorch_tanh", 8, &window
			c.RopeTheta, c.RopeLocalTheta, c.QueryScalar = 1e6, 10000, 12
			c.RopeScaling = &model.RopeScaling{Kind: "linear", Factor: 8}
			c.LayerTypes = []string{"sliding_attention", "full_attention"}
		}),
	}
}

// lively makes a random model whose weights are large enough for every path to
// carry gradient.
func lively(t *testing.T, cfg model.Config, seed uint64) *model.Model {
	t.Helper()
	m, err := model.NewRandom(cfg, seed)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, spec := range cfg.Tensors() {
		_, data, err := m.MergedTensor(spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range data {
			if len(spec.Shape) == 1 {
				data[i] = float32(1 + 0.2*rng.NormFloat64())
			} else {
				data[i] = float32(0.3 * rng.NormFloat64())
			}
		}
	}
	return m
}

func stir(m *model.Model, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	for _, p := range m.Params() {
		for i := range p.Data {
			p.Data[i] = float32(0.3 * rng.NormFloat64())
		}
	}
}

// rowsOf makes rows of given lengths with some targets masked and some weighted.
func rowsOf(vocab int, seed uint64, lengths ...int) []model.Sequence {
	rng := rand.New(rand.NewPCG(seed, 3))
	var batch []model.Sequence
	for _, n := range lengths {
		s := model.Sequence{Tokens: make([]int32, n), Weights: make([]float32, n)}
		for i := range n {
			s.Tokens[i] = int32(rng.IntN(vocab))
			s.Weights[i] = []float32{0, 1, 1, 0.5}[rng.IntN(4)]
		}
		batch = append(batch, s)
	}
	return batch
}

func TestLossEqualsTheDoublePrecisionReference(t *testing.T) {
	cases := families()
	cases["untied"] = tiny(false)
	for name, cfg := range cases {
		m := lively(t, cfg, 1)
		if err := m.AddLoRA(model.LoRAConfig{Rank: 3, Alpha: 6, TargetModules: []string{"all-linear"}}, 2); err != nil {
			t.Fatal(err)
		}
		stir(m, 3)
		batch := rowsOf(37, 4, 9, 1, 14, 5)
		want := newReference(t, m).loss(batch)
		got, targets, err := m.Loss(batch)
		if err != nil {
			t.Fatal(err)
		}
		if d := math.Abs(got-want) / want; d > 1e-5 {
			t.Errorf("%s: loss %.9f, reference %.9f (relative %.1e)", name, got, want, d)
		}
		n := 0
		for _, s := range batch {
			for j := 1; j < len(s.Weights); j++ {
				if s.Weights[j] != 0 {
					n++
				}
			}
		}
		if n != targets {
			t.Errorf("%d targets, want %d", targets, n)
		}
	}
}

// checkGradients compares every element of every gradient with central
// differences of the float64 reference. The error is measured against the
// tensor's largest gradient.
func checkGradients(t *testing.T, m *model.Model, batch []model.Sequence, tolerance float64) {
	t.Helper()
	m.ZeroGrad()
	if _, _, err := m.LossAndGrad(batch); err != nil {
		t.Fatal(err)
	}
	ref := newReference(t, m)
	worst, where := 0.0, ""
	const h = 1e-5
	for _, p := range m.Params() {
		data := ref.w[p.Name]
		largest, off := 0.0, 0.0
		for i := range data {
			x := data[i]
			data[i] = x + h
			up := ref.loss(batch)
			data[i] = x - h
			down := ref.loss(batch)
			data[i] = x
			want := (up - down) / (2 * h)
			largest = max(largest, math.Abs(want))
			off = max(off, math.Abs(want-float64(p.Grad[i])))
		}
		if largest == 0 {
			t.Errorf("%s: gradient is zero everywhere, the check says nothing", p.Name)
			continue
		}
		if rel := off / largest; rel > worst {
			worst, where = rel, p.Name
		}
	}
	t.Logf("worst relative error %.1e, in %s", worst, where)
	if worst > tolerance {
		t.Errorf("gradient of %s is off by %.1e, more than %.0e", where, worst, tolerance)
	}
}

// smallest makes a shape one for which every element's difference quotient is quick.
func smallest(c model.Config) model.Config {
	c.HiddenSize, c.IntermediateSize, c.NumHeads, c.NumKVHeads, c.VocabSize = 10, 7, 2, 1, 13
	return c
}

func TestLoRAGradientsAgreeWithFiniteDifferences(t *testing.T) {
	for name, cfg := range families() {
		t.Run(name, func(t *testing.T) {
			m := lively(t, smallest(cfg), 5)
			if err := m.AddLoRA(model.LoRAConfig{Rank: 2, Alpha: 3, RSLoRA: true, TargetModules: []string{"all-linear"}}, 6); err != nil {
				t.Fatal(err)
			}
			stir(m, 7)
			checkGradients(t, m, rowsOf(13, 8, 7, 3), 2e-5)
		})
	}
}

func TestFullGradientsAgreeWithFiniteDifferences(t *testing.T) {
	cases := families()
	cases["untied"] = tiny(false)
	for name, cfg := range cases {
		t.Run(name, func(t *testing.T) {
			cfg = smallest(cfg)
			if cfg.LayerTypes == nil { // which otherwise come in two kinds
				cfg.NumLayers = 1
			}
			m := lively(t, cfg, 9)
			if err := m.TrainAll(); err != nil {
				t.Fatal(err)
			}
			checkGradients(t, m, rowsOf(13, 10, 6, 3), 2e-5)
		})
	}
}

func TestLogprobsAndSessionsAgree(t *testing.T) {
	cases := families()
	cases["untied"] = tiny(false)
	for name, cfg := range cases {
		t.Run(name, func(t *testing.T) { checkSessions(t, cfg) })
	}
}

func checkSessions(t *testing.T, cfg model.Config) {
	m := lively(t, cfg, 11)
	if err := m.AddLoRA(model.LoRAConfig{Rank: 2, Alpha: 3, TargetModules: []string{"q_proj", "down_proj"}}, 6); err != nil {
		t.Fatal(err)
	}
	stir(m, 12)
	tokens := rowsOf(37, 13, 17)[0].Tokens
	want := newReference(t, m).logprobs(tokens)
	got, err := m.Logprobs(tokens, 4)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 13 {
		t.Fatalf("%d log-probabilities, want 13", len(got))
	}
	for i, lp := range got {
		if d := math.Abs(lp - want[i+3][tokens[i+4]]); d > 1e-4 {
			t.Errorf("token %d: %.6f, reference %.6f", i+4, lp, want[i+3][tokens[i+4]])
		}
	}
	s := m.NewSession()
	for _, cut := range []int{6, 1, 1, 7, 1} {
		at := s.Len()
		logits, err := s.Append(tokens[at : at+cut])
		if err != nil {
			t.Fatal(err)
		}
		for i, lp := range logSoftmax(widen(logits)) {
			if d := math.Abs(lp - want[s.Len()-1][i]); d > 1e-4 {
				t.Errorf("after %d tokens: log p(%d) = %.6f, reference %.6f", s.Len(), i, lp, want[s.Len()-1][i])
			}
		}
	}
	// Another continuation of the first six tokens.
	s.Truncate(6)
	other := append(slices.Clone(tokens[:6]), (tokens[6]+1)%37, 5)
	want = newReference(t, m).logprobs(other)
	logits, err := s.Append(other[6:])
	if err != nil {
		t.Fatal(err)
	}
	if d := math.Abs(logSoftmax(widen(logits))[0] - want[7][0]); d > 1e-4 || s.Len() != 8 {
		t.Errorf("after truncating, %d tokens and log p is off by %g", s.Len(), d)
	}
}
