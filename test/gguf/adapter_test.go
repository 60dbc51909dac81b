package judge_test

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	judge "github.com/tunemesh/tunemesh/test/gguf"
	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// llama.cpp with the base model's GGUF and our GGUF adapter expects what our
// forward pass with the adapter expects.
func TestSameLogitsWithAdapter(t *testing.T) {
	j := judge.New(t)
	raw := trained(t)
	tok, err := tokenizer.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	all := families(tok.VocabSize())
	all["rank-stabilised"] = all["llama"]
	for name, config := range all {
		rs, maxKL := name == "rank-stabilised", 1e-8
		if config["model_type"] == "gemma3_text" {
			maxKL = 1e-5 // see TestEveryArchitecture
		}
		dir := folder(t, config, raw, weights.F32)
		ids := tok.Encode("The mesh places each stage of a job on a node; Übergröße 123 今天 🎉\n", false)
		m := load(t, dir)
		if err := m.AddLoRA(model.LoRAConfig{Rank: 4, Alpha: 8, RSLoRA: rs, TargetModules: []string{"all-linear"}}, 1); err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(2, 3))
		var tensors []adapter.Tensor
		for _, p := range m.Params() {
			if len(p.Shape) != 2 {
				t.Fatalf("parameter %s has shape %v", p.Name, p.Shape)
			}
			for i := range p.Data {
				p.Data[i] = float32(rng.NormFloat64() * 0.15)
			}
			module, isB, ok := adapter.Module(p.Name)
			if !ok {
				t.Fatalf("parameter %s is none of an adapter", p.Name)
			}
			name := adapter.NameA(module)
			if isB {
				name = adapter.NameB(module)
			}
			tensors = append(tensors, adapter.Tensor{Name: name, Rows: p.Shape[0], Cols: p.Shape[1], Data: p.Data})
		}
		folder := filepath.Join(t.TempDir(), "adapter")
		if err := adapter.Save(folder, adapter.NewConfig("base", 4, 8, 0, rs, []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}), tensors); err != nil {
			t.Fatal(err)
		}
		lora := filepath.Join(t.TempDir(), "adapter.gguf")
		if err := gguf.ExportAdapter(context.Background(), folder, dir, lora); err != nil {
			t.Fatal(err)
		}
		base := export(t, dir, "F32")
		with := ask(t, j, judge.Request{Model: base, LoRAs: []judge.LoRA{{Path: lora, Scale: 1}}, Sequences: [][]int32{ids}}).Sequences[0]
		without := ask(t, j, judge.Request{Model: base, Sequences: [][]int32{ids}}).Sequences[0]
		worst, moved := 0.0, 0.0
		for i, ours := range distributions(t, m, ids) {
			worst = max(worst, divergence(with[i].Logprobs, ours))
			moved = max(moved, divergence(without[i].Logprobs, ours))
		}
		if !(worst <= maxKL) {
			t.Errorf("%s: worst KL %.2g", name, worst)
		}
		if moved < 0.1 {
			t.Errorf("%s: the adapter moves the distributions by %.2g only: the test would not see a mistake", name, moved)
		}
		t.Logf("%s: worst KL %.2g; without the adapter %.2g", name, worst, moved)
	}
}

// An adapter for another model is refused.
func TestAdapterOfAnotherModelIsRefused(t *testing.T) {
	dir := folder(t, tiny(605), trained(t), weights.BF16)
	save := func(module string, in, out int) string {
		folder := filepath.Join(t.TempDir(), "adapter")
		err := adapter.Save(folder, adapter.NewConfig("base", 2, 4, 0, false, []string{"q_proj"}), []adapter.Tensor{
			{Name: adapter.NameA(module), Rows: 2, Cols: in, Data: make([]float32, 2*in)},
			{Name: adapter.NameB(module), Rows: out, Cols: 2, Data: make([]float32, 2*out)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return folder
	}
	for want, folder := range map[string]string{
		"does not fit": save("model.layers.0.self_attn.q_proj", 96, 96),
		"3 layers":     save("model.layers.3.self_attn.q_proj", 96, 192),
		"no linear":    save("model.layers.0.self_attn.rotary", 96, 192),
	} {
		err := gguf.ExportAdapter(context.Background(), folder, dir, filepath.Join(t.TempDir(), "a.gguf"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func load(t *testing.T, dir string) *model.Model {
	t.Helper()
	m, err := tuned.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m.Model
}

// distributions is our forward pass: the log probabilities of the next token after
// each one of ids, in nats.
func distributions(t *testing.T, m *model.Model, ids []int32) [][]float64 {
	t.Helper()
	s := m.NewSession()
	var out [][]float64
	for _, id := range ids {
		logits, err := s.Append([]int32{id})
		if err != nil {
			t.Fatal(err)
		}
		top := float64(slices.Max(logits))
		sum := 0.0
		for _, l := range logits {
			sum += math.Exp(float64(l) - top)
		}
		lp := make([]float64, len(logits))
		for i, l := range logits {
			lp[i] = float64(l) - top - math.Log(sum)
		}
		out = append(out, lp)
	}
	return out
}

// divergence is KL(p || q) in nats.
func divergence(p, q []float64) float64 {
	kl := 0.0
	for i := range p {
		kl += math.Exp(p[i]) * (p[i] - q[i])
	}
	return kl
}
