package model

import (
	"slices"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// backward runs all blocks in reverse. dx holds the gradient with respect to the
// last block's output and ends as that of the embeddings.
func (m *Model) backward(r rows, dx []float32, keep bool) {
	for l := len(m.blocks) - 1; l >= 0; l-- {
		a := m.layerActs(l, keep)
		if !keep {
			// What the forward pass would have kept, computed once more.
			scratch := buf(&m.work.do, len(dx))
			m.blockForward(l, a, r, m.work.x[l], scratch)
		}
		m.blockBackward(l, a, r, m.work.x[l], dx)
	}
	if m.embedG == nil {
		return
	}
	m.scaleEmbedding(dx)
	d := m.cfg.HiddenSize
	m.eng.Columns(d, func(c0, c1 int) {
		for i, t := range r.tokens {
			g := m.embedG[int(t)*d+c0 : int(t)*d+c1]
			for j, v := range dx[i*d+c0 : i*d+c1] {
				g[j] += v
			}
		}
	})
}

// blockBackward turns dx, the gradient of the block's output, into that of its
// input x.
func (m *Model) blockBackward(l int, a *acts, r rows, x, dx []float32) {
	b, t, c, e, w := &m.blocks[l], len(r.tokens), m.cfg, m.eng, &m.work
	d, f := c.HiddenSize, c.IntermediateSize
	qw, kw := c.NumHeads*c.HeadDim, c.NumKVHeads*c.HeadDim

	// out = mid + norm(down(act(gate)·up))
	h, dh := buf(&w.h, t*f), buf(&w.dh, t*f)
	m.gated(h, a.gate, a.up)
	m.projectGrad(l, a, r, []int{downProj}, h, [][]float32{m.normGrad(&b.norms[mlpOutNorm], &a.mlpOut, dx)}, dh)
	m.gatedGrad(a.gate, a.up, dh)
	dxn := buf(&w.dxn, t*d)
	m.projectGrad(l, a, r, []int{gateProj, upProj}, m.normed(l, []int{gateProj, upProj}, a.mid, a.inv2, mlpNorm), [][]float32{a.gate, a.up}, dxn)
	e.RMSNormGrad(dx, b.norms[mlpNorm].grad, dxn, a.mid, a.inv2, b.norms[mlpNorm].gain())

	// mid = x + norm(o(attention(q, k, v)))
	do := buf(&w.do, t*qw)
	m.projectGrad(l, a, r, []int{oProj}, a.o, [][]float32{m.normGrad(&b.norms[attnOutNorm], &a.attnOut, dx)}, do)
	dq, dk, dv := buf(&w.dq, t*qw), buf(&w.dk, t*kw), buf(&w.dv, t*kw)
	e.AttentionGrad(dq, dk, dv, do, a.o, a.lse, a.q, a.k, a.v, r.spans, b.heads)
	e.Rope(dq, c.NumHeads, c.HeadDim, r.pos, b.rope.cos, b.rope.sinNeg)
	e.Rope(dk, c.NumKVHeads, c.HeadDim, r.pos, b.rope.cos, b.rope.sinNeg)
	m.headNormGrad(&b.norms[qNorm], &a.qNormed, &dq, a.q)
	m.headNormGrad(&b.norms[kNorm], &a.kNormed, &dk, a.k)
	if l == 0 && m.embedG == nil {
		dxn = nil // nothing below is trained
	}
	m.projectGrad(l, a, r, []int{qProj, kProj, vProj}, m.normed(l, []int{qProj, kProj, vProj}, x, a.inv1, attnNorm), [][]float32{dq, dk, dv}, dxn)
	if dxn != nil {
		e.RMSNormGrad(dx, b.norms[attnNorm].grad, dxn, x, a.inv1, b.norms[attnNorm].gain())
	}
}

// normed computes the input of some linear layers once more, from that of their norm
// and the rows' 1/rms: with the bits of the way forth, and cheaper than the memory to
// keep it. It is nil where neither an adapter nor a gradient asks for it.
func (m *Model) normed(l int, which []int, x, inv []float32, norm int) []float32 {
	b := &m.blocks[l]
	if !slices.ContainsFunc(which, func(wi int) bool { return b.lin[wi].a != nil || b.lin[wi].grad != nil }) {
		return nil
	}
	xn := buf(&m.work.xn, len(x))
	m.eng.RMSNormed(xn, inv, x, b.norms[norm].gain())
	return xn
}

// gatedGrad replaces gate and up by their gradients, given that of gated's result.
func (m *Model) gatedGrad(gate, up, dh []float32) {
	if m.arch.act == "silu" {
		m.eng.SwiGLUGrad(gate, up, dh)
		return
	}
	m.eng.GeGLUGrad(gate, up, dh)
}

// normGrad returns the gradient of a norm's input given that of its output, dy; dy
// itself without a norm. It is valid until the next call.
func (m *Model) normGrad(n *norm, kept *normed, dy []float32) []float32 {
	if !n.there() {
		return dy
	}
	dx := buf(&m.work.normed, len(dy))
	clear(dx)
	m.eng.RMSNormGrad(dx, n.grad, dy, kept.x, kept.inv, n.gain())
	return dx
}

// headNormGrad makes *dy the gradient of the heads before their norm. It takes the
// memory of normed, the rotated heads, which nothing needs any more.
func (m *Model) headNormGrad(n *norm, kept *normed, dy *[]float32, normed []float32) {
	if !n.there() {
		return
	}
	clear(normed)
	m.eng.RMSNormGrad(normed, n.grad, *dy, kept.x, kept.inv, n.gain())
	*dy = normed
}

// projectGrad adds the gradients of linear layers that share the input x, given
// those of their outputs, and sets dx (unless nil) to the gradient of x.
func (m *Model) projectGrad(l int, a *acts, r rows, which []int, x []float32, dys [][]float32, dx []float32) {
	t := len(r.tokens)
	in := m.blocks[l].lin[which[0]].in
	var first, second []kernel.Product
	toX := kernel.Product{}
	if dx != nil {
		toX.C = kernel.F32(dx, t, in)
	}
	dropped := r.train && m.lora != nil && m.lora.Dropout > 0
	for i, wi := range which {
		lin := &m.blocks[l].lin[wi]
		dy := kernel.F32(dys[i], t, lin.out)
		toX.Terms = append(toX.Terms, kernel.Term{A: dy, B: lin.matrix(), Round: m.roundsFor(lin.w)})
		if lin.grad != nil {
			second = append(second, kernel.Product{C: kernel.F32(lin.grad, lin.out, lin.in), Add: true,
				Terms: []kernel.Term{{A: dy.T(), B: kernel.F32(x, t, in)}}})
		}
		if lin.biasGrad != nil {
			m.eng.SumRows(lin.biasGrad, dys[i])
		}
		if lin.a == nil {
			continue
		}
		rank := m.lora.Rank
		du := kernel.F32(buf(&m.work.uGrad[i], t*rank), t, rank)
		u := kernel.F32(a.u[wi], t, rank)
		xin := kernel.F32(m.dropout(l, wi, r, &m.work.dropped[i], x), t, in)
		first = append(first, kernel.Product{C: du, Terms: []kernel.Term{{A: dy, B: lin.matB()}}})
		second = append(second,
			kernel.Product{C: kernel.F32(lin.b.Grad, lin.out, rank), Add: true, Terms: []kernel.Term{{A: dy.T(), B: u}}},
			kernel.Product{C: kernel.F32(lin.a.Grad, rank, in), Add: true, Terms: []kernel.Term{{A: du.T(), B: xin}}})
		if !dropped {
			toX.Terms = append(toX.Terms, kernel.Term{A: du, B: lin.matA()})
		}
	}
	m.eng.Gemm(first...)
	for i, wi := range which {
		if m.blocks[l].lin[wi].a != nil {
			m.eng.Scale(m.work.uGrad[i], float32(m.lora.Scale()))
		}
	}
	if dx != nil {
		second = append(second, toX)
	}
	m.eng.Gemm(second...)
	if dx != nil && dropped {
		m.addDroppedGrads(l, which, t, dx)
	}
}

// addDroppedGrads adds the adapters' share of dx through their dropout masks.
func (m *Model) addDroppedGrads(l int, which []int, t int, dx []float32) {
	for i, wi := range which {
		lin := &m.blocks[l].lin[wi]
		if lin.a == nil {
			continue
		}
		g := buf(&m.work.droppedGrads, t*lin.in)
		m.eng.Gemm(kernel.Product{C: kernel.F32(g, t, lin.in),
			Terms: []kernel.Term{{A: kernel.F32(m.work.uGrad[i], t, m.lora.Rank), B: lin.matA()}}})
		m.applyMask(l, wi, g)
		m.eng.Add(dx, g)
	}
}
