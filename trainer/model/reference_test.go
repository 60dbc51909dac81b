package model_test

import (
	"math"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/model"
)

// reference is a plain float64 decoder, written after modeling_llama.py and
// sharing nothing with the engine: one loop per formula. It is the measure for
// the engine's values and, by finite differences, for its gradients.
type reference struct {
	cfg  model.Config
	w    map[string][]float64 // every tensor, adapters under their PEFT names
	s    float64
	rank int
}

func newReference(t *testing.T, m *model.Model) *reference {
	t.Helper()
	r := &reference{cfg: m.Config(), w: map[string][]float64{}}
	if l := m.LoRA(); l != nil {
		r.s, r.rank = l.Scale(), l.Rank
	}
	// The weights without adapters: merged while every adapter is zero.
	var saved [][]float32
	for _, p := range m.Params() {
		saved = append(saved, append([]float32(nil), p.Data...))
		r.w[p.Name] = widen(p.Data)
		if m.LoRA() != nil {
			clear(p.Data)
		}
	}
	for _, spec := range r.cfg.Tensors() {
		_, data, err := m.MergedTensor(spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		r.w[spec.Name] = widen(data)
	}
	for i, p := range m.Params() {
		copy(p.Data, saved[i])
	}
	return r
}

func widen(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// linear computes y = W·x + s·B·A·x.
func (r *reference) linear(path string, x []float64) []float64 {
	matVec := func(w, x []float64) []float64 {
		y := make([]float64, len(w)/len(x))
		for o := range y {
			for i, v := range x {
				y[o] += w[o*len(x)+i] * v
			}
		}
		return y
	}
	y := matVec(r.w[path+".weight"], x)
	if a := r.w["base_model.model."+path+".lora_A.weight"]; a != nil {
		for o, v := range matVec(r.w["base_model.model."+path+".lora_B.weight"], matVec(a, x)) {
			y[o] += r.s * v
		}
	}
	return y
}

func (r *reference) norm(name string, x []float64) []float64 {
	var ms float64
	for _, v := range x {
		ms += v * v / float64(len(x))
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v / math.Sqrt(ms+r.cfg.RMSNormEps) * r.w[name][i]
	}
	return y
}

// rotate applies rotary embedding to one head (rotate_half: i pairs with
// i+dim/2).
func (r *reference) rotate(x []float64, pos int) {
	half := len(x) / 2
	for i := range half {
		angle := float64(pos) * math.Pow(r.cfg.RopeTheta, -2*float64(i)/float64(len(x)))
		a, b, c, s := x[i], x[i+half], math.Cos(angle), math.Sin(angle)
		x[i], x[i+half] = a*c-b*s, b*c+a*s
	}
}

// logprobs returns, for each position, the log-softmax over the vocabulary.
func (r *reference) logprobs(tokens []int32) [][]float64 {
	c, hd := r.cfg, r.cfg.HeadDim
	var xs [][]float64
	for _, t := range tokens {
		e := r.w["model.embed_tokens.weight"][int(t)*c.HiddenSize:][:c.HiddenSize]
		xs = append(xs, append([]float64(nil), e...))
	}
	for l := range c.NumLayers {
		path := "model.layers." + itoa(l)
		var ks, vs [][]float64
		for p, x := range xs {
			n := r.norm(path+".input_layernorm.weight", x)
			q, k := r.linear(path+".self_attn.q_proj", n), r.linear(path+".self_attn.k_proj", n)
			for h := range c.NumHeads {
				r.rotate(q[h*hd:(h+1)*hd], p)
			}
			for h := range c.NumKVHeads {
				r.rotate(k[h*hd:(h+1)*hd], p)
			}
			ks, vs = append(ks, k), append(vs, r.linear(path+".self_attn.v_proj", n))
			o := make([]float64, c.NumHeads*hd)
			for h := range c.NumHeads {
				g := h / (c.NumHeads / c.NumKVHeads)
				score := make([]float64, p+1)
				for j := range score {
					for i := range hd {
						score[j] += q[h*hd+i] * ks[j][g*hd+i] / math.Sqrt(float64(hd))
					}
				}
				for j, lp := range logSoftmax(score) {
					for i := range hd {
						o[h*hd+i] += math.Exp(lp) * vs[j][g*hd+i]
					}
				}
			}
			add(x, r.linear(path+".self_attn.o_proj", o))
			n = r.norm(path+".post_attention_layernorm.weight", x)
			gate, up := r.linear(path+".mlp.gate_proj", n), r.linear(path+".mlp.up_proj", n)
			for i, v := range gate {
				up[i] *= v / (1 + math.Exp(-v))
			}
			add(x, r.linear(path+".mlp.down_proj", up))
		}
	}
	head := "lm_head"
	if c.TieWordEmbeddings {
		head = "model.embed_tokens"
	}
	out := make([][]float64, len(xs))
	for p, x := range xs {
		out[p] = logSoftmax(r.linear(head, r.norm("model.norm.weight", x)))
	}
	return out
}

func (r *reference) loss(batch []model.Sequence) (sum float64) {
	for _, s := range batch {
		lp := r.logprobs(s.Tokens)
		for j := 1; j < len(s.Tokens); j++ {
			sum -= float64(s.Weights[j]) * lp[j-1][s.Tokens[j]]
		}
	}
	return sum
}

func logSoftmax(x []float64) []float64 {
	m, sum := math.Inf(-1), 0.0
	for _, v := range x {
		m = max(m, v)
	}
	for _, v := range x {
		sum += math.Exp(v - m)
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v - m - math.Log(sum)
	}
	return out
}

func add(y, x []float64) {
	for i, v := range x {
		y[i] += v
	}
}

func itoa(n int) string { return string(rune(48 + n)) }
