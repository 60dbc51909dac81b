package model_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/kernel"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/optim"
)

// testdata/reference.json is what PyTorch, transformers and PEFT compute for
// tiny models; testdata/reference.py made it and says how.

type digest struct {
	Norm   float64      `json:"norm"`
	Sample [][2]float64 `json:"sample"` // index, value
}

type trainingRecord struct {
	Losses []float64         `json:"losses"`
	Norms  []float64         `json:"norms"` // global gradient norm before clipping
	Grads  map[string]digest `json:"grads"` // of the first step
	Final  map[string]digest `json:"final"` // weights after the last
}

type referenceCase struct {
	Name     string            `json:"name"`
	Config   json.RawMessage   `json:"config"`
	Logits   []float64         `json:"logits"`
	Logprobs []float64         `json:"logprobs"`
	Greedy   []int32           `json:"greedy"`
	Full     trainingRecord    `json:"full"`
	LoRA     trainingRecord    `json:"lora"`
	Merged   map[string]digest `json:"merged"`
}

// hashed is the generator of weights and tokens that reference.py has too.
func hashed(name string, i int) uint32 {
	h := uint32(2166136261)
	for _, c := range []byte(name) {
		h = (h ^ uint32(c)) * 16777619
	}
	x := uint32(i)*2654435761 + h
	x ^= x >> 15
	x *= 2246822519
	return x ^ x>>13
}

func hashedWeights(name string, n int, gain bool) []float32 {
	out := make([]float32, n)
	for i := range out {
		if gain {
			out[i] = 1 + float32(int(hashed(name, i)&7)-4)/16
		} else {
			out[i] = float32(2*int(hashed(name, i)&255)-255) / 512
		}
	}
	return out
}

func hashedModel(t *testing.T, cfg model.Config, e *kernel.Engine) *model.Model {
	t.Helper()
	src := mapSource{}
	for _, spec := range cfg.Tensors() {
		var b []byte
		for _, v := range hashedWeights(spec.Name, spec.Len(), len(spec.Shape) == 1) {
			b = binary.LittleEndian.AppendUint16(b, uint16(math.Float32bits(v)>>16)) // exact by construction
		}
		src[spec.Name] = rawTensor{"BF16", spec.Shape, b}
	}
	m, err := model.Load(cfg, src)
	if err != nil {
		t.Fatal(err)
	}
	m.SetEngine(e)
	return m
}

func hashedBatch(step, vocab int) []model.Sequence {
	var batch []model.Sequence
	for r, n := range []int{13, 6, 21} {
		s := model.Sequence{Tokens: make([]int32, n), Weights: make([]float32, n)}
		for i := range n {
			s.Tokens[i] = int32(hashed(fmt.Sprintf("tokens %d %d", step, r), i) % uint32(vocab))
			if i >= n/3 {
				s.Weights[i] = 1
			}
		}
		batch = append(batch, s)
	}
	return batch
}

func TestTheEngineComputesWhatTransformersAndPEFTCompute(t *testing.T) {
	raw, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []referenceCase
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 9 {
		t.Fatalf("%d cases in reference.json", len(cases))
	}
	for _, c := range cases {
		for isa := kernel.Pure; isa <= kernel.Best(); isa++ {
			t.Run(c.Name+"/"+isa.String(), func(t *testing.T) { compare(t, c, kernel.New(isa)) })
		}
	}
}

func compare(t *testing.T, c referenceCase, e *kernel.Engine) {
	cfg, err := model.ParseConfig(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	m := hashedModel(t, cfg, e)
	tokens := hashedBatch(0, cfg.VocabSize)[2].Tokens
	logits, err := m.NewSession().Append(tokens)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range c.Logits {
		if d := math.Abs(float64(logits[i]) - want); d > 2e-5 {
			t.Errorf("logit %d is %.6f, transformers has %.6f", i, logits[i], want)
		}
	}
	logprobs, err := m.Logprobs(tokens, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range c.Logprobs {
		if d := math.Abs(logprobs[i] - want); d > 2e-5 {
			t.Errorf("log p of token %d is %.6f, transformers has %.6f", i+1, logprobs[i], want)
		}
	}
	said, err := m.NewSession().Greedy(tokens[:5], len(c.Greedy), nil)
	if err != nil || !slices.Equal(said, c.Greedy) {
		t.Errorf("said %v (%v), transformers says %v", said, err, c.Greedy)
	}

	full := hashedModel(t, cfg, e)
	if err := full.TrainAll(); err != nil {
		t.Fatal(err)
	}
	follow(t, "full", full, c.Full)

	lora := hashedModel(t, cfg, e)
	if err := lora.AddLoRA(model.LoRAConfig{Rank: 4, Alpha: 8, TargetModules: []string{"all-linear"}}, 1); err != nil {
		t.Fatal(err)
	}
	for _, p := range lora.Params() {
		for i, v := range hashedWeights(p.Name, len(p.Data), false) {
			p.Data[i] = v / 4
		}
	}
	follow(t, "lora", lora, c.LoRA)
	if len(c.Merged) == 0 {
		t.Error("no merged weights to compare")
	}
	for name, want := range c.Merged {
		_, data, err := lora.MergedTensor(name)
		if err != nil {
			t.Error(err)
			continue
		}
		near(t, "merged "+name, data, want, 3e-4)
	}
}

// follow trains as reference.py does and compares all along the way.
func follow(t *testing.T, mode string, m *model.Model, want trainingRecord) {
	t.Helper()
	if len(m.Params()) != len(want.Grads) || len(want.Grads) == 0 {
		t.Fatalf("%s: %d trainable tensors, PyTorch has %d", mode, len(m.Params()), len(want.Grads))
	}
	var tensors []optim.Tensor
	for _, p := range m.Params() {
		tensors = append(tensors, optim.Tensor{Name: p.Name, Data: p.Data, Grad: p.Grad})
	}
	cfg := optim.DefaultAdamW()
	cfg.WeightDecay = 0.01
	o, err := optim.NewAdamW(tensors, cfg)
	if err != nil {
		t.Fatal(err)
	}
	schedule := optim.Schedule{Kind: "linear", Peak: 0.02, Warmup: 2, Total: len(want.Losses)}
	for step, loss := range want.Losses {
		m.ZeroGrad()
		sum, n, err := m.LossAndGrad(hashedBatch(step%2, m.Config().VocabSize))
		if err != nil {
			t.Fatal(err)
		}
		if step == 0 {
			for _, p := range m.Params() {
				scaled := slices.Clone(p.Grad)
				for i := range scaled {
					scaled[i] /= float32(n)
				}
				near(t, mode+" gradient of "+p.Name, scaled, want.Grads[p.Name], 3e-5)
			}
		}
		norm := optim.ScaleAndClip(tensors, 1/float64(n), 1)
		if got := sum / float64(n); math.Abs(got-loss) > 3e-5*loss {
			t.Errorf("%s: loss of step %d is %.7f, PyTorch has %.7f", mode, step, got, loss)
		}
		if math.Abs(norm-want.Norms[step]) > 3e-4*norm {
			t.Errorf("%s: gradient norm of step %d is %.6f, PyTorch has %.6f", mode, step, norm, want.Norms[step])
		}
		o.Step(schedule.At(step))
	}
	for _, p := range m.Params() {
		near(t, mode+" final "+p.Name, p.Data, want.Final[p.Name], 5e-4)
	}
}

// near compares a tensor's norm and some values, relative to its root mean
// square.
func near(t *testing.T, what string, got []float32, want digest, tolerance float64) {
	t.Helper()
	var sum float64
	for _, v := range got {
		sum += float64(v) * float64(v)
	}
	if norm := math.Sqrt(sum); !(math.Abs(norm-want.Norm) <= tolerance*want.Norm) {
		t.Errorf("%s: norm %.7g, PyTorch has %.7g", what, norm, want.Norm)
	}
	rms := want.Norm / math.Sqrt(float64(len(got)))
	for _, s := range want.Sample {
		if v := float64(got[int(s[0])]); !(math.Abs(v-s[1]) <= tolerance*(rms+math.Abs(s[1]))) {
			t.Errorf("%s[%d] is %.7g, PyTorch has %.7g", what, int(s[0]), v, s[1])
		}
	}
}
