package optim

import "math"

// Tensor is one trainable tensor as the optimiser sees it: a name, its values
// and their gradient, both flat and of equal length.
type Tensor struct {
	Name string
	Data []float32
	Grad []float32
	// NoDecay exempts the tensor from weight decay (norms, biases).
	NoDecay bool
}

// GlobalNorm returns the Euclidean norm of all gradients together, accumulated
// in float64 in the order of the tensors.
func GlobalNorm(tensors []Tensor) float64 {
	var sum float64
	for _, t := range tensors {
		// Four partial sums hide the latency of the addition; their order is
		// fixed, so the result is too.
		var s0, s1, s2, s3 float64
		g := t.Grad
		i := 0
		for ; i+4 <= len(g); i += 4 {
			a, b, c, d := float64(g[i]), float64(g[i+1]), float64(g[i+2]), float64(g[i+3])
			s0 += a * a
			s1 += b * b
			s2 += c * c
			s3 += d * d
		}
		for ; i < len(g); i++ {
			s0 += float64(g[i]) * float64(g[i])
		}
		sum += (s0 + s1) + (s2 + s3)
	}
	return math.Sqrt(sum)
}

// ScaleAndClip multiplies every gradient by scale (1/targets, to turn a summed
// loss into a mean) and then, if maxNorm > 0, scales all of them down together
// so that their global norm is at most maxNorm. It returns the norm before
// clipping. A norm that is not finite is returned as it is and the gradients
// are left unscaled: the caller decides whether to skip the step or stop.
//
// The factor is maxNorm/(norm+1e-6), as in torch.nn.utils.clip_grad_norm_.
func ScaleAndClip(tensors []Tensor, scale, maxNorm float64) (norm float64) {
	norm = GlobalNorm(tensors) * math.Abs(scale)
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return norm
	}
	factor := scale
	if maxNorm > 0 {
		if c := maxNorm / (norm + 1e-6); c < 1 {
			factor *= c
		}
	}
	if factor == 1 {
		return norm
	}
	f := float32(factor)
	for _, t := range tensors {
		for i := range t.Grad {
			t.Grad[i] *= f
		}
	}
	return norm
}
