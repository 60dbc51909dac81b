package model

// Reserve makes the buffers of a micro-batch of so many tokens, for training, so
// that what a training takes is known from the start and no buffer grows while
// the smaller one waits to be collected.
func (m *Model) Reserve(tokens int) {
	w, c := &m.work, m.cfg
	for len(w.x) <= len(m.blocks) {
		w.x = append(w.x, nil)
	}
	for i := range w.x {
		buf(&w.x[i], tokens*c.HiddenSize)
	}
	for l := range m.blocks {
		a := m.layerActs(l, !m.recomp)
		a.reserve(c, &m.arch, tokens)
		for wi := range m.blocks[l].lin {
			if m.blocks[l].lin[wi].a != nil {
				buf(&a.u[wi], tokens*m.lora.Rank)
			}
		}
	}
	m.reserveAdapters(tokens)
	if m.arch.norms[attnOutNorm] != "" {
		buf(&w.normed, tokens*c.HiddenSize)
	}
	qw, kw := c.NumHeads*c.HeadDim, c.NumKVHeads*c.HeadDim
	for _, b := range []*[]float32{&w.h, &w.dh} {
		buf(b, tokens*c.IntermediateSize)
	}
	for _, b := range []*[]float32{&w.dx, &w.dxn, &w.xn} {
		buf(b, tokens*c.HiddenSize)
	}
	for _, b := range []*[]float32{&w.do, &w.dq} {
		buf(b, tokens*qw)
	}
	for _, b := range []*[]float32{&w.dk, &w.dv} {
		buf(b, tokens*kw)
	}
}

// reserveAdapters makes what the adapters of all layers share.
func (m *Model) reserveAdapters(tokens int) {
	if m.lora == nil {
		return
	}
	for _, shared := range [][]int{{qProj, kProj, vProj}, {oProj}, {gateProj, upProj}, {downProj}} {
		for i, wi := range shared {
			lin := &m.blocks[0].lin[wi]
			if lin.a == nil {
				continue
			}
			buf(&m.work.uGrad[i], tokens*m.lora.Rank)
			if m.lora.Dropout > 0 {
				for _, b := range []*[]float32{&m.work.dropped[i], &m.work.droppedGrads} {
					buf(b, max(cap(*b), tokens*lin.in))
				}
			}
		}
	}
}
