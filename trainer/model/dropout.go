package model

// dropout returns x, or in training with LoRA dropout a copy in *b with some values
// zeroed and the others scaled by 1/(1−p). Which ones is a pure function of
// seed, step, layer, module and index (a counter-based generator), so the way
// back and a resumed run see the same choice without storing it.
func (m *Model) dropout(l, which int, r rows, b *[]float32, x []float32) []float32 {
	if !r.train || m.lora.Dropout == 0 {
		return x
	}
	out := buf(b, len(x))
	copy(out, x)
	m.applyMask(l, which, out)
	return out
}

// applyMask multiplies x by the dropout mask of one adapter in this step.
func (m *Model) applyMask(l, which int, x []float32) {
	p := m.lora.Dropout
	keep := float32(1 / (1 - p))
	limit := uint64(p * (1 << 32))
	key := mix(m.loraSeed ^ mix(m.step^mix(uint64(l*numLinears+which)+1)))
	m.eng.Rows(len(x), 1, func(i, j int) {
		for ; i < j; i++ {
			if mix(key+uint64(i))>>32 < limit {
				x[i] = 0
			} else {
				x[i] *= keep
			}
		}
	})
}

// mix is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
