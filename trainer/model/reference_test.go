package model_test

import (
	"math"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/model"
)

// reference is a plain float64 decoder, written after transformers' modeling files
// and sharing nothing with the engine: one loop per formula. It is the measure for
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
	y := matVec(r.w[path+".weight"], x)
	if b := r.w[path+".bias"]; b != nil {
		add(y, b)
	}
	if a := r.w["base_model.model."+path+".lora_A.weight"]; a != nil {
		for o, v := range matVec(r.w["base_model.model."+path+".lora_B.weight"], matVec(a, x)) {
			y[o] += r.s * v
		}
	}
	return y
}

// matVec computes W·x. A difference quotient of every element takes millions of
// these loops, which touch nothing that is shared: they are spared the race
// detector's look at each access.
//
//go:norace
func matVec(w, x []float64) []float64 {
	y := make([]float64, len(w)/len(x))
	for o := range y {
		for i, v := range x {
			y[o] += w[o*len(x)+i] * v
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
		gain := r.w[name][i]
		if r.gemma() {
			gain++
		}
		y[i] = v / math.Sqrt(ms+r.cfg.RMSNormEps) * gain
	}
	return y
}

func (r *reference) gemma() bool { return r.cfg.ModelType == "gemma3_text" }

// headNorm normalises one head in place, where the model has such a norm.
func (r *reference) headNorm(name string, x []float64) {
	if r.w[name] != nil {
		copy(x, r.norm(name, x))
	}
}

// activate is the gate's: SiLU, or Gemma's GELU by its definition with tanh.
func (r *reference) activate(x float64) float64 {
	if r.gemma() {
		return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	}
	return x / (1 + math.Exp(-x))
}

// rotate applies rotary embedding to one head (rotate_half: i pairs with
// i+dim/2), with linear scaling if the layer has it.
func (r *reference) rotate(x []float64, pos int, local bool) {
	half := len(x) / 2
	theta, at := r.cfg.RopeTheta, float64(pos)
	if local {
		theta = r.cfg.RopeLocalTheta
	} else if s := r.cfg.RopeScaling; s != nil {
		at /= s.Factor
	}
	for i := range half {
		angle := at * math.Pow(theta, -2*float64(i)/float64(len(x)))
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
		x := append([]float64(nil), e...)
		if r.gemma() {
			for i := range x {
				x[i] *= math.Sqrt(float64(c.HiddenSize))
			}
		}
		xs = append(xs, x)
	}
	for l := range c.NumLayers {
		path := "model.layers." + itoa(l)
		local := r.gemma() && c.LayerTypes[l] == "sliding_attention"
		divisor, sees := float64(hd), len(tokens)
		if r.gemma() {
			divisor = c.QueryScalar
		}
		if local || c.ModelType == "mistral" && c.SlidingWindow != nil {
			sees = *c.SlidingWindow
		}
		var ks, vs [][]float64
		for p, x := range xs {
			n := r.norm(path+".input_layernorm.weight", x)
			q, k := r.linear(path+".self_attn.q_proj", n), r.linear(path+".self_attn.k_proj", n)
			for h := range c.NumHeads {
				r.headNorm(path+".self_attn.q_norm.weight", q[h*hd:(h+1)*hd])
				r.rotate(q[h*hd:(h+1)*hd], p, local)
			}
			for h := range c.NumKVHeads {
				r.headNorm(path+".self_attn.k_norm.weight", k[h*hd:(h+1)*hd])
				r.rotate(k[h*hd:(h+1)*hd], p, local)
			}
			ks, vs = append(ks, k), append(vs, r.linear(path+".self_attn.v_proj", n))
			o := make([]float64, c.NumHeads*hd)
			for h := range c.NumHeads {
				g := h / (c.NumHeads / c.NumKVHeads)
				first := max(0, p+1-sees)
				score := make([]float64, p+1-first)
				for j := range score {
					for i := range hd {
						score[j] += q[h*hd+i] * ks[first+j][g*hd+i] / math.Sqrt(divisor)
					}
				}
				for j, lp := range logSoftmax(score) {
					for i := range hd {
						o[h*hd+i] += math.Exp(lp) * vs[first+j][g*hd+i]
					}
				}
			}
			y := r.linear(path+".self_attn.o_proj", o)
			if r.gemma() {
				y = r.norm(path+".post_attention_layernorm.weight", y)
			}
			add(x, y)
			before := ".post_attention_layernorm.weight"
			if r.gemma() {
				before = ".pre_feedforward_layernorm.weight"
			}
			n = r.norm(path+before, x)
			gate, up := r.linear(path+".mlp.gate_proj", n), r.linear(path+".mlp.up_proj", n)
			for i, v := range gate {
				up[i] *= r.activate(v)
			}
			if y = r.linear(path+".mlp.down_proj", up); r.gemma() {
				y = r.norm(path+".post_feedforward_layernorm.weight", y)
			}
			add(x, y)
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
