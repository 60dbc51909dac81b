package model

// acts is what one decoder block keeps for its way back. All are row-major with
// one row per token.
type acts struct {
	inv1     []float32 // 1/rms of each row of the block's input
	q, k, v  []float32 // rotated queries and keys; values
	lse, o   []float32 // attention's softmax denominators, and its output
	mid      []float32 // residual stream after attention
	inv2     []float32
	gate, up []float32
	// of the norms that not every architecture has
	qNormed, kNormed, attnOut, mlpOut normed

	u [numLinears][]float32 // s·A·x of each adapter, [tokens, rank]
}

// maxShared is the largest number of linear layers with one input: q, k and v.
const maxShared = 3

// normed is what the way back needs of a norm: its input and 1/rms of each row.
type normed struct{ x, inv []float32 }

// workspace holds the buffers of forward and backward passes, kept from call to
// call.
type workspace struct {
	layers []acts      // one per layer, or a single one when recomputing
	x      [][]float32 // the input of each layer, and the last one's output
	xn     []float32   // a block's normed input, computed once more on the way back
	h      []float32   // the MLP's product of activated gate and up
	normed []float32   // a norm's output, or the gradient of its input
	// gradients
	dx, dxn, dh, do, dq, dk, dv []float32
	// adapters of the layers that share an input, side by side
	uGrad, dropped [maxShared][]float32 // gradient of A·x; the input after dropout
	droppedGrads   []float32
	// head
	hx, hinv, hn, dhn, dhx, logits []float32
}

// buf returns *b with n values, whose contents are undefined.
func buf(b *[]float32, n int) []float32 {
	if cap(*b) < n {
		*b = make([]float32, n)
	}
	*b = (*b)[:n]
	return *b
}

// reserve sizes one block's buffers for t tokens.
func (a *acts) reserve(c Config, arch *architecture, t int) {
	d, f := c.HiddenSize, c.IntermediateSize
	qw, kw := c.NumHeads*c.HeadDim, c.NumKVHeads*c.HeadDim
	buf(&a.inv1, t)
	buf(&a.inv2, t)
	buf(&a.mid, t*d)
	buf(&a.q, t*qw)
	buf(&a.o, t*qw)
	buf(&a.k, t*kw)
	buf(&a.v, t*kw)
	buf(&a.lse, t*c.NumHeads)
	buf(&a.gate, t*f)
	buf(&a.up, t*f)
	for _, n := range []struct {
		norm       int
		kept       *normed
		rows, size int
	}{{qNorm, &a.qNormed, t * c.NumHeads, c.HeadDim}, {kNorm, &a.kNormed, t * c.NumKVHeads, c.HeadDim}, {attnOutNorm, &a.attnOut, t, d}, {mlpOutNorm, &a.mlpOut, t, d}} {
		if arch.norms[n.norm] != "" {
			buf(&n.kept.x, n.rows*n.size)
			buf(&n.kept.inv, n.rows)
		}
	}
}
