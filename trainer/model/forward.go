package model

import (
	"math"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// rows describes the packed rows of one pass: token ids, their positions, and
// the sequences they belong to.
type rows struct {
	tokens []int32
	pos    []int32
	spans  []kernel.Span
	// cache is nil in training; in a session it holds the keys and values.
	cache *Session
	// branches says that each span continues what the cache holds by itself.
	branches bool
	// train says that LoRA dropout applies.
	train bool
}

func pack(batch []Sequence) rows {
	var r rows
	for _, s := range batch {
		r.spans = append(r.spans, kernel.Span{Q0: len(r.tokens), K0: len(r.tokens), Rows: len(s.Tokens)})
		for i, t := range s.Tokens {
			r.tokens = append(r.tokens, t)
			r.pos = append(r.pos, int32(i))
		}
	}
	return r
}

// embedRows copies the embeddings of the tokens into x, [tokens, hidden], and
// scales them where the architecture does.
func (m *Model) embedRows(x []float32, tokens []int32) {
	defer m.scaleEmbedding(x)
	d := m.cfg.HiddenSize
	for i, t := range tokens {
		row := x[i*d : (i+1)*d]
		if m.embed.f32 != nil {
			copy(row, m.embed.f32[int(t)*d:])
			continue
		}
		if m.embed.q != nil {
			m.embed.q.Row(row, int(t))
			continue
		}
		for j, b := range m.embed.bf16[int(t)*d:][:d] {
			row[j] = math.Float32frombits(uint32(b) << 16)
		}
	}
}

// scaleEmbedding multiplies embeddings, or on the way back their gradient, by
// √hidden_size where the architecture does.
func (m *Model) scaleEmbedding(x []float32) {
	if m.arch.scaledEmbedding {
		m.eng.Scale(x, float32(math.Sqrt(float64(m.cfg.HiddenSize))))
	}
}

// acts returns the activations of a layer; when recomputing (or when there is no
// way back) all layers share one.
func (m *Model) layerActs(l int, keep bool) *acts {
	n, i := 1, 0
	if keep {
		n, i = len(m.blocks), l
	}
	for len(m.work.layers) < n {
		m.work.layers = append(m.work.layers, acts{})
	}
	return &m.work.layers[i]
}

// forward runs all blocks. With keep, each block's activations stay; in any case
// the input of each block stays in work.x if inputs is set. It returns the
// residual stream after the last block, [tokens, hidden].
func (m *Model) forward(r rows, keep, inputs bool) []float32 {
	w, n := &m.work, len(r.tokens)*m.cfg.HiddenSize
	var last int32
	for _, p := range r.pos {
		last = max(last, p)
	}
	for _, t := range m.ropes {
		t.reserve(int(last) + 1)
	}
	for len(w.x) <= len(m.blocks) {
		w.x = append(w.x, nil)
	}
	x := buf(&w.x[0], n)
	m.embedRows(x, r.tokens)
	for l := range m.blocks {
		next := 1 - l%2 // two buffers take turns when inputs need not stay
		if inputs {
			next = l + 1
		}
		out := buf(&w.x[next], n)
		m.blockForward(l, m.layerActs(l, keep), r, x, out)
		x = out
	}
	return x
}

// blockForward computes one decoder block, from x to out.
func (m *Model) blockForward(l int, a *acts, r rows, x, out []float32) {
	b, t, c, e := &m.blocks[l], len(r.tokens), m.cfg, m.eng
	a.reserve(c, &m.arch, t)
	xn := buf(&m.work.xn, len(x))
	e.RMSNorm(xn, a.inv1, x, b.norms[attnNorm].gain(), c.RMSNormEps)
	m.project(l, a, r, []int{qProj, kProj, vProj}, xn, [][]float32{a.q, a.k, a.v}, false)
	m.headNorm(&b.norms[qNorm], &a.qNormed, a.q)
	m.headNorm(&b.norms[kNorm], &a.kNormed, a.k)
	e.Rope(a.q, c.NumHeads, c.HeadDim, r.pos, b.rope.cos, b.rope.sin)
	e.Rope(a.k, c.NumKVHeads, c.HeadDim, r.pos, b.rope.cos, b.rope.sin)
	keys, values := a.k, a.v
	switch {
	case r.cache == nil:
	case r.branches:
		keys, values = r.cache.branch(l, r.spans, a.k, a.v)
	default:
		keys, values = r.cache.extend(l, a.k, a.v)
	}
	e.Attention(a.o, a.lse, a.q, keys, values, r.spans, b.heads)
	m.residual(l, a, r, oProj, a.o, x, a.mid, &b.norms[attnOutNorm], &a.attnOut)
	e.RMSNorm(xn, a.inv2, a.mid, b.norms[mlpNorm].gain(), c.RMSNormEps)
	m.project(l, a, r, []int{gateProj, upProj}, xn, [][]float32{a.gate, a.up}, false)
	h := buf(&m.work.h, t*c.IntermediateSize)
	m.gated(h, a.gate, a.up)
	m.residual(l, a, r, downProj, h, a.mid, out, &b.norms[mlpOutNorm], &a.mlpOut)
}

// gated computes the MLP's product of its activated gate and up.
func (m *Model) gated(h, gate, up []float32) {
	if m.arch.act == "silu" {
		m.eng.SwiGLU(h, gate, up)
		return
	}
	m.eng.GeGLU(h, gate, up)
}

// headNorm normalises every head of x in place, if there is such a norm, and keeps
// what the way back needs.
func (m *Model) headNorm(n *norm, kept *normed, x []float32) {
	if !n.there() {
		return
	}
	copy(kept.x, x)
	m.eng.RMSNorm(x, kept.inv, kept.x, n.gain(), m.cfg.RMSNormEps)
}

// residual computes y = x + W·in, or with a norm y = x + norm(W·in).
func (m *Model) residual(l int, a *acts, r rows, which int, in, x, y []float32, n *norm, kept *normed) {
	copy(y, x)
	if !n.there() {
		m.project(l, a, r, []int{which}, in, [][]float32{y}, true)
		return
	}
	m.project(l, a, r, []int{which}, in, [][]float32{kept.x}, false)
	add := buf(&m.work.normed, len(x))
	m.eng.RMSNorm(add, kept.inv, kept.x, n.gain(), m.cfg.RMSNormEps)
	m.eng.Add(y, add)
}

// project computes y = x·Wᵀ + bias + s·(x·Aᵀ)·Bᵀ for linear layers that share an
// input; with add, it adds to y (none of those layers has a bias).
func (m *Model) project(l int, a *acts, r rows, which []int, x []float32, ys [][]float32, add bool) {
	t := len(r.tokens)
	var down, up []kernel.Product
	for i, wi := range which {
		lin := &m.blocks[l].lin[wi]
		p := kernel.Product{C: kernel.F32(ys[i], t, lin.out), Add: add,
			Terms: []kernel.Term{{A: kernel.F32(x, t, lin.in), B: lin.matrix().T(), Round: r.cache == nil && m.roundsFor(lin.w)}}}
		if lin.bias != nil { // what the product begins with
			m.eng.FillRows(ys[i], lin.bias)
			p.Add = true
		}
		if lin.a != nil {
			rank := m.lora.Rank
			u := kernel.F32(buf(&a.u[wi], t*rank), t, rank)
			in := m.dropout(l, wi, r, &m.work.dropped[i], x)
			down = append(down, kernel.Product{C: u, Terms: []kernel.Term{{A: kernel.F32(in, t, lin.in), B: lin.matA().T()}}})
			p.Terms = append(p.Terms, kernel.Term{A: u, B: lin.matB().T()})
		}
		up = append(up, p)
	}
	m.eng.Gemm(down...)
	m.scaleAdapters(a, l, which)
	m.eng.Gemm(up...)
}

// scaleAdapters multiplies what Gemm left in a.u by LoRA's factor s.
func (m *Model) scaleAdapters(a *acts, l int, which []int) {
	for _, wi := range which {
		if m.blocks[l].lin[wi].a != nil {
			m.eng.Scale(a.u[wi], float32(m.lora.Scale()))
		}
	}
}

// matrix views W, [out, in].
func (lin *linear) matrix() kernel.Matrix { return lin.w.matrix(lin.out, lin.in) }

func (w weights) matrix(rows, cols int) kernel.Matrix {
	if w.f32 != nil {
		return kernel.F32(w.f32, rows, cols)
	}
	if w.q != nil {
		return w.q.Matrix()
	}
	return kernel.BF16(w.bf16, rows, cols)
}

// matA views A, [rank, in]; matB views B, [out, rank].
func (lin *linear) matA() kernel.Matrix {
	return kernel.F32(lin.a.Data, lin.a.Shape[0], lin.a.Shape[1])
}

func (lin *linear) matB() kernel.Matrix {
	return kernel.F32(lin.b.Data, lin.b.Shape[0], lin.b.Shape[1])
}
