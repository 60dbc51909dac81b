package kernel

// Rope rotates each row's heads in place by the row's position. x is
// [len(pos), heads*headDim]; cos and sin are tables of [positions, headDim/2].
// Halves are paired, as in Hugging Face's rotate_half: element i with
// i+headDim/2. With the negated sine it is its own inverse and thus the way
// back for gradients.
func (e *Engine) Rope(x []float32, heads, headDim int, pos []int32, cos, sin []float32) {
	half, width := headDim/2, heads*headDim
	e.Rows(len(pos), width, func(r0, r1 int) {
		for r := r0; r < r1; r++ {
			p := int(pos[r]) * half
			c, s := cos[p:p+half], sin[p:p+half]
			for h := range heads {
				v := x[r*width+h*headDim:][:headDim]
				e.vec.rope(v[:half], v[half:], c, s)
			}
		}
	})
}

// SwiGLU sets h = silu(gate)·up.
func (e *Engine) SwiGLU(h, gate, up []float32) {
	e.Rows(len(h), 1, func(i, j int) { e.vec.swiglu(h[i:j], gate[i:j], up[i:j]) })
}

// SwiGLUGrad replaces gate and up by the gradients with respect to them, given
// the gradient dh of their SwiGLU.
func (e *Engine) SwiGLUGrad(gate, up, dh []float32) {
	e.Rows(len(dh), 1, func(i, j int) { e.vec.swigluGrad(gate[i:j], up[i:j], dh[i:j]) })
}

// GeGLU sets h = gelu(gate)·up, with the tanh form of GELU (Hendrycks and Gimpel,
// arXiv 1606.08415; "gelu_pytorch_tanh" in transformers).
func (e *Engine) GeGLU(h, gate, up []float32) {
	e.Rows(len(h), 1, func(i, j int) { e.vec.geglu(h[i:j], gate[i:j], up[i:j]) })
}

// GeGLUGrad replaces gate and up by the gradients with respect to them, given
// the gradient dh of their GeGLU.
func (e *Engine) GeGLUGrad(gate, up, dh []float32) {
	e.Rows(len(dh), 1, func(i, j int) { e.vec.gegluGrad(gate[i:j], up[i:j], dh[i:j]) })
}
