package model

import "math"

// ropeTable holds cosines and sines of one rotary embedding, [positions,
// head_dim/2]; it grows with the positions that are asked for.
type ropeTable struct {
	freqs            []float64
	cos, sin, sinNeg []float32
}

// reserve extends the table to n positions.
func (t *ropeTable) reserve(n int) {
	for p := len(t.cos) / len(t.freqs); p < n; p++ {
		for _, f := range t.freqs {
			s, c := math.Sincos(float64(p) * f)
			t.cos = append(t.cos, float32(c))
			t.sin = append(t.sin, float32(s))
			t.sinNeg = append(t.sinNeg, -float32(s))
		}
	}
}

// ropeTables returns the tables of whole and of local layers; the latter only
// where there are any.
func (c Config) ropeTables() (global, local *ropeTable) {
	global = &ropeTable{freqs: inverseFrequencies(c.HeadDim, c.RopeTheta, c.RopeScaling)}
	if c.RopeLocalTheta > 0 {
		local = &ropeTable{freqs: inverseFrequencies(c.HeadDim, c.RopeLocalTheta, nil)}
	}
	return global, local
}

// inverseFrequencies returns head_dim/2 rotary frequencies in radians per
// position.
func inverseFrequencies(headDim int, theta float64, r *RopeScaling) []float64 {
	f := make([]float64, headDim/2)
	for i := range f {
		f[i] = math.Pow(theta, -2*float64(i)/float64(headDim))
	}
	if r == nil {
		return f
	}
	for i, v := range f {
		if r.Kind == "linear" {
			f[i] = v / r.Factor
			continue
		}
		// llama3: short wavelengths stay, long ones are stretched, those between
		// are blended.
		turns := float64(r.OriginalMaxPositions) * v / (2 * math.Pi)
		switch {
		case turns > r.HighFreqFactor:
		case turns < r.LowFreqFactor:
			f[i] = v / r.Factor
		default:
			s := (turns - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
			f[i] = (1-s)*v/r.Factor + s*v
		}
	}
	return f
}
