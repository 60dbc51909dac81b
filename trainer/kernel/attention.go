package kernel

import "math"

// Span is one sequence in a packed batch: Rows queries from row Q0, whose keys
// and values begin at row K0. The first query sees Past+1 keys, each further one
// a key more. In training Past is 0 and K0 equals Q0.
type Span struct{ Q0, Rows, K0, Past int }

// Heads is the shape of grouped-query attention: Q query heads in groups that
// share one of KV key/value heads, each of Dim values.
type Heads struct {
	Q, KV, Dim int
	// Window, if above 0, is how many keys a query sees at most: its own and those
	// just before it.
	Window int
	// Scale multiplies the scores; 0 stands for 1/√Dim.
	Scale float64
}

func (h Heads) scale() float32 {
	if h.Scale != 0 {
		return float32(h.Scale)
	}
	return float32(1 / math.Sqrt(float64(h.Dim)))
}

// first is the first of the keys before seen that the query which sees seen of them
// without a window sees with it.
func (h Heads) first(seen int) int {
	if h.Window <= 0 {
		return 0
	}
	return max(0, seen-h.Window)
}

// attentionRows is the number of queries handled at once: scores never take more
// than this many rows, and half of the masked products is never computed.
const attentionRows = 96

// Attention computes causal softmax attention, o = softmax(Scale·q·kᵀ)·v, within
// each span. q and o are [rows, Q*Dim], k and v [rows, KV*Dim]. lse, [rows, Q],
// receives the logarithm of each softmax's denominator for the way back
// (as in FlashAttention, arXiv 2205.14135), which then needs no stored scores.
func (e *Engine) Attention(o, lse, q, k, v []float32, spans []Span, hd Heads) {
	e.Parallel(len(spans)*hd.Q, func(w, i int) {
		sp, attend := spans[i/hd.Q], e.attend
		if sp.Past > 0 && sp.Rows <= maxDotRows {
			attend = e.attendFew
		}
		attend(&e.scratch[w], o, lse, q, k, v, sp, hd, i%hd.Q)
	})
}

func (e *Engine) attend(s *scratch, o, lse, q, k, v []float32, sp Span, hd Heads, h int) {
	scale := hd.scale()
	kvh := h / (hd.Q / hd.KV)
	for r0 := 0; r0 < sp.Rows; r0 += attentionRows {
		rows := min(attentionRows, sp.Rows-r0)
		begin := hd.first(sp.Past + r0 + 1) // no row of these sees a key before
		keys := sp.Past + r0 + rows - begin
		qm := headView(q, sp.Q0+r0, rows, h, hd.Q, hd.Dim)
		km, vm := headView(k, sp.K0+begin, keys, kvh, hd.KV, hd.Dim), headView(v, sp.K0+begin, keys, kvh, hd.KV, hd.Dim)
		p := grow(&s.att[0], rows*keys)
		e.serial(s, F32(p, rows, keys), false, Term{A: qm, B: km.T()})
		for i := range rows {
			row := p[i*keys : (i+1)*keys]
			seen := sp.Past + r0 + i + 1
			from, to := hd.first(seen)-begin, seen-begin
			clear(row[:from])
			clear(row[to:])
			row = row[from:to]
			shift := e.vec.max(row) * scale
			sum := e.vec.expSum(row, row, scale, shift)
			e.vec.scale(row, row, 1/sum)
			lse[(sp.Q0+r0+i)*hd.Q+h] = shift + float32(math.Log(float64(sum)))
		}
		e.serial(s, headView(o, sp.Q0+r0, rows, h, hd.Q, hd.Dim), false, Term{A: F32(p, rows, keys), B: vm})
	}
}

// AttentionGrad computes dq, dk and dv from the gradient do of o and what
// Attention was given and left. dk and dv are overwritten.
func (e *Engine) AttentionGrad(dq, dk, dv, do, o, lse, q, k, v []float32, spans []Span, hd Heads) {
	// A task owns one key/value head of one span, so that the sums over the
	// group's query heads have one order.
	e.Parallel(len(spans)*hd.KV, func(w, i int) {
		sp, kvh := spans[i/hd.KV], i%hd.KV
		group := hd.Q / hd.KV
		for g := range group {
			e.attendGrad(&e.scratch[w], dq, dk, dv, do, o, lse, q, k, v, sp, hd, kvh*group+g, g > 0)
		}
	})
}

func (e *Engine) attendGrad(s *scratch, dq, dk, dv, do, o, lse, q, k, v []float32, sp Span, hd Heads, h int, add bool) {
	scale := hd.scale()
	kvh := h / (hd.Q / hd.KV)
	if !add {
		n := sp.Past + sp.Rows
		clearHead(dk, sp.K0, n, kvh, hd)
		clearHead(dv, sp.K0, n, kvh, hd)
	}
	for r0 := 0; r0 < sp.Rows; r0 += attentionRows {
		rows := min(attentionRows, sp.Rows-r0)
		begin := hd.first(sp.Past + r0 + 1)
		keys := sp.Past + r0 + rows - begin
		view := func(x []float32) Matrix { return headView(x, sp.Q0+r0, rows, h, hd.Q, hd.Dim) }
		kview := func(x []float32) Matrix { return headView(x, sp.K0+begin, keys, kvh, hd.KV, hd.Dim) }
		pData, dsData := grow(&s.att[0], rows*keys), grow(&s.att[1], rows*keys)
		p, ds := F32(pData, rows, keys), F32(dsData, rows, keys)
		e.serial(s, p, false, Term{A: view(q), B: kview(k).T()})
		e.serial(s, ds, false, Term{A: view(do), B: kview(v).T()})
		for i := range rows {
			seen := sp.Past + r0 + i + 1
			from, to := hd.first(seen)-begin, seen-begin
			at := (sp.Q0 + r0 + i) * hd.Q
			pr, dr := pData[i*keys:(i+1)*keys], dsData[i*keys:(i+1)*keys]
			e.vec.expSum(pr[from:to], pr[from:to], scale, lse[at+h])
			x := (at + h) * hd.Dim
			delta := e.vec.dot(do[x:x+hd.Dim], o[x:x+hd.Dim])
			e.vec.attnGrad(dr[from:to], pr[from:to], scale, delta)
			for _, row := range [][]float32{pr, dr} {
				clear(row[:from])
				clear(row[to:])
			}
		}
		e.serial(s, view(dq), false, Term{A: ds, B: kview(k)})
		e.serial(s, kview(dk), true, Term{A: ds.T(), B: view(q)})
		e.serial(s, kview(dv), true, Term{A: p.T(), B: view(do)})
	}
}

// serial computes one product with the calling worker alone.
func (e *Engine) serial(s *scratch, c Matrix, add bool, t Term) {
	e.tile.forCols(c.cols).gemmBlock(s, c, add, []Term{t}, 0, c.rows, 0, c.cols)
}

// headView views one head of rows [r0, r0+rows) in [rows, heads*dim].
func headView(x []float32, r0, rows, head, heads, dim int) Matrix {
	return F32Stride(x[(r0*heads+head)*dim:], rows, dim, heads*dim)
}

func clearHead(x []float32, r0, rows, head int, hd Heads) {
	for r := r0; r < r0+rows; r++ {
		clear(x[(r*hd.KV+head)*hd.Dim:][:hd.Dim])
	}
}
