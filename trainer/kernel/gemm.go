package kernel

import "fmt"

// Term is one product A·B of a sum of products. A is float32; B may be
// bfloat16 or quantized. Either may be a transposed view.
type Term struct {
	A, B Matrix
	// Round says that A's values are rounded to bfloat16 before they are
	// multiplied; A must not be transposed, and B must be bfloat16. Sums stay
	// float32.
	Round bool

	paired bool       // A holds pairs
	left   *blocksOf8 // A rounded, where codes are multiplied with codes
}

// tile is a register tile: micro-kernels for up to mr rows by nr columns.
type tile struct {
	mr, nr int
	// full[i] computes i rows by nr columns, half[i] i rows by nr/2 (nil if
	// there is none).
	full, half []microKernel
	// paired and pairedHalf do the same for pairs of bfloat16, whose rounding and
	// packing are beside them; nil where the processor has no such instruction.
	paired, pairedHalf []microKernel
	roundPairs         func(dst, src []float32)
	packPairs          func(dst []float32, w int, src []uint16, rs, cs, kc, nw int)
	// narrow is the tile for results of at most its nr columns, or nil.
	narrow *tile
	// packRows copies kc rows of width columns (nr or nr/2) into dst; packCols
	// does the same from a transposed source.
	pack packers
	// decode turns blocks of a quantized matrix into values.
	decode dequantizer
}

// microKernel computes C (+)= A·B for tiles blocks of its rows, below each other,
// by panels blocks of its columns, beside each other. c has row stride ldc, A's
// element (i, k) lies at a[i*rs+k*cs], B's (k, j) at b[k*nr+j], and the panels of B
// one after the other. Each element is one chain of fused multiply-adds in the
// order of k that begins with C's value (if add) or with zero: so cutting K or the
// matrix into blocks never changes a bit of the result.
type microKernel func(c []float32, ldc int, a []float32, rs, cs int, b []float32, kc int, add bool, panels, tiles int)

const (
	blockK    = 512 // columns of A per pass: a packed panel of B stays within L2
	blockRows = 640 // most rows of C per task
)

// Product is one result of Gemm: C = Σ A·B over the terms, or C += Σ A·B if Add
// is set. C must be a float32 view that is not transposed and overlaps no
// operand.
type Product struct {
	C     Matrix
	Add   bool
	Terms []Term
}

// Gemm computes independent products side by side. A sum of terms in one product
// costs less than one call per term, because C stays in cache, and several
// products in one call keep all workers busy to the end.
func (e *Engine) Gemm(products ...Product) {
	round, integers := false, false
	for _, p := range products {
		checkTerms(p.C, p.Terms)
		integers = integers || p.byIntegers()
		for _, t := range p.Terms {
			round = round || t.Round
		}
	}
	if round {
		products = e.roundTerms(products)
	}
	if integers {
		products = e.roundForIntegers(products)
	}
	tasks := e.tasks[:0]
	for i := range products {
		tasks = e.cut(tasks, &products[i])
	}
	e.tasks = tasks
	e.Parallel(len(tasks), func(w, i int) {
		b := tasks[i]
		if b.dot {
			e.dotBlock(b.p, b.n0, b.n1)
			return
		}
		b.t.gemmBlock(&e.scratch[w], b.p.C, b.p.Add, b.p.Terms, b.m0, b.m1, b.n0, b.n1)
	})
}

// block is the part of a product that one task computes.
type block struct {
	p              *Product
	t              *tile
	m0, m1, n0, n1 int
	dot            bool
}

// cut divides a product into tasks.
func (e *Engine) cut(tasks []block, p *Product) []block {
	c := p.C
	if c.rows == 0 || c.cols == 0 {
		return tasks
	}
	if c.rows <= maxDotRows && canDot(p) {
		for n := 0; n < c.cols; n += dotCols {
			tasks = append(tasks, block{p: p, n0: n, n1: min(c.cols, n+dotCols), dot: true})
		}
		return tasks
	}
	t := e.tile.forProduct(p)
	// As few blocks of rows as may be, of equal height: each packs its panels of B
	// anew.
	blocks := (c.rows + blockRows - 1) / blockRows
	nr, rows := t.nr, ((c.rows+blocks-1)/blocks+t.mr-1)/t.mr*t.mr
	panels := (c.cols + nr - 1) / nr
	// Few panels (LoRA's rank is one): cut the rows finer to occupy all workers.
	for rows > 8*t.mr && panels*((c.rows+rows-1)/rows) < 8 {
		rows = (rows/2 + t.mr - 1) / t.mr * t.mr
	}
	cols := nr
	if panels*((c.rows+rows-1)/rows) >= 32 {
		cols = 2 * nr
	}
	for n := 0; n < c.cols; n += cols {
		for m := 0; m < c.rows; m += rows {
			tasks = append(tasks, block{p: p, t: t, m0: m, m1: min(c.rows, m+rows), n0: n, n1: min(c.cols, n+cols)})
		}
	}
	return tasks
}

// forCols returns the tile for results of so many columns.
func (t *tile) forCols(cols int) *tile {
	if t.narrow != nil && cols <= t.narrow.nr {
		return t.narrow
	}
	return t
}

// forProduct is forCols but for pairs, for which there is no narrow tile.
func (t *tile) forProduct(p *Product) *tile {
	for _, term := range p.Terms {
		if term.paired {
			return t
		}
	}
	return t.forCols(p.C.cols)
}

func checkTerms(c Matrix, terms []Term) {
	if c.f32 == nil && c.rows*c.cols > 0 || c.cs != 1 {
		panic("kernel: the result of Gemm must be a row-major float32 matrix")
	}
	for _, t := range terms {
		if t.A.f32 == nil && t.A.rows*t.A.cols > 0 {
			panic("kernel: the left operand of Gemm must be float32")
		}
		if t.A.rows != c.rows || t.B.cols != c.cols || t.A.cols != t.B.rows {
			panic(fmt.Sprintf("kernel: cannot multiply %dx%d by %dx%d into %dx%d", t.A.rows, t.A.cols, t.B.rows, t.B.cols, c.rows, c.cols))
		}
		if t.Round && t.A.rows*t.A.cols > 0 && (t.A.cs != 1 || t.B.bf16 == nil) {
			panic("kernel: a rounded term needs a left operand that is not transposed and a right one of bfloat16")
		}
	}
}

// gemmBlock computes the block [m0, m1) x [n0, n1) of C with one worker.
func (t *tile) gemmBlock(s *scratch, c Matrix, add bool, terms []Term, m0, m1, n0, n1 int) {
	width := (n1 - n0 + t.nr - 1) / t.nr * t.nr
	for _, term := range terms {
		a, b := term.A, term.B
		full, half, per := t.full, t.half, 1 // per: values of k in one of A's elements
		if term.paired {
			full, half, per = t.paired, t.pairedHalf, 2
		}
		for k0 := 0; k0 < a.cols; k0 += blockK {
			kc := min(blockK, a.cols-k0)
			steps := (kc + per - 1) / per
			bp := grow(&s.bPack, steps*width)
			for n := n0; n < n1; n += t.nr {
				dst := bp[(n-n0)*steps:]
				if nw := min(n1-n, t.nr); term.paired {
					t.packPairs(dst, t.width(nw), b.bf16[k0*b.rs+n*b.cs:], b.rs, b.cs, kc, nw)
				} else {
					t.packPanel(s, dst, b, k0, kc, n, n+nw)
				}
			}
			whole := (n1 - n0) / t.nr // panels; what is left of the columns makes one more
			rest := n0 + whole*t.nr
			for m, tiles := m0, 0; m < m1; m += tiles * min(t.mr, m1-m) {
				mr := min(t.mr, m1-m)
				tiles = 1
				if a.inPlace() {
					tiles = (m1 - m) / mr
				}
				ap, rs, cs := t.leftTile(s, a, m, mr, k0/per, steps)
				if whole > 0 {
					full[mr](c.f32[m*c.rs+n0:], c.rs, ap, rs, cs, bp, steps, add, whole, tiles)
				}
				if rest == n1 {
					continue
				}
				kernel := full[mr]
				if t.width(n1-rest) < t.nr {
					kernel = half[mr]
				}
				t.run(kernel, s, c.f32[m*c.rs+rest:], c.rs, ap, rs, cs, bp[(rest-n0)*steps:], mr, n1-rest, steps, add, tiles)
			}
			add = true
		}
	}
	if !add { // no terms, or empty ones
		for m := m0; m < m1; m++ {
			clear(c.f32[m*c.rs+n0 : m*c.rs+n1])
		}
	}
}

// run computes tiles of mr rows and nw columns; narrow ones go through a buffer,
// for the micro-kernels always write whole tiles.
func (t *tile) run(kernel microKernel, s *scratch, c []float32, ldc int, a []float32, rs, cs int, b []float32, mr, nw, kc int, add bool, tiles int) {
	w := t.width(nw)
	if nw == w {
		kernel(c, ldc, a, rs, cs, b, kc, add, 1, tiles)
		return
	}
	edge := grow(&s.edge, t.mr*t.nr)
	for tile := range tiles {
		a, c := a[tile*mr*rs:], c[tile*mr*ldc:]
		if add {
			for i := range mr {
				copy(edge[i*w:i*w+nw], c[i*ldc:i*ldc+nw])
			}
		}
		kernel(edge, w, a, rs, cs, b, kc, add, 1, 1)
		for i := range mr {
			copy(c[i*ldc:i*ldc+nw], edge[i*w:i*w+nw])
		}
	}
}

// width is that of the panel, and so of the micro-kernel, for nw columns.
func (t *tile) width(nw int) int {
	if nw <= t.nr/2 && t.half != nil {
		return t.nr / 2
	}
	return t.nr
}

// leftTile returns where the micro-kernel finds rows [m, m+mr) and columns
// [k0, k0+kc) of A: in place, or copied where the rows would fall into the same
// cache sets and evict each other.
func (t *tile) leftTile(s *scratch, a Matrix, m, mr, k0, kc int) (data []float32, rs, cs int) {
	data = a.f32[m*a.rs+k0*a.cs:]
	if a.inPlace() || mr == 1 {
		return data, a.rs, a.cs
	}
	stride := kc + 16
	ap := grow(&s.aPack, t.mr*(blockK+16))
	for i := range mr {
		copy(ap[i*stride:i*stride+kc], data[i*a.rs:i*a.rs+kc])
	}
	return ap, stride, 1
}

// inPlace says whether micro-kernels read rows of this left operand where they are.
func (m Matrix) inPlace() bool { return m.cs != 1 || m.rs%1024 != 0 }

// packPanel lays out rows [k0, k0+kc) and columns [n0, n1) of B as the
// micro-kernels read it: k after k, nr (or nr/2) values each, zeros beyond n1.
func (t *tile) packPanel(s *scratch, dst []float32, b Matrix, k0, kc, n0, n1 int) {
	w := t.width(n1 - n0)
	if b.q != nil {
		t.packQuantized(s, dst, w, b, k0, kc, n0, n1)
		return
	}
	off := k0*b.rs + n0*b.cs
	switch {
	case b.cs == 1 && b.f32 != nil:
		t.pack.rowsF32(dst, w, b.f32[off:], b.rs, kc, n1-n0)
	case b.cs == 1:
		t.pack.rowsBF16(dst, w, b.bf16[off:], b.rs, kc, n1-n0)
	case b.rs == 1 && b.f32 != nil:
		t.pack.colsF32(dst, w, b.f32[off:], b.cs, kc, n1-n0)
	case b.rs == 1 && b.bf16 != nil:
		t.pack.colsBF16(dst, w, b.bf16[off:], b.cs, kc, n1-n0)
	default:
		panic("kernel: the right operand of Gemm needs contiguous rows or columns")
	}
}
