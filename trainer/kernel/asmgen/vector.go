package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// loop describes a function over n values at several pointers, eight at a time;
// the last few go through masked loads and stores, so that every element gets
// the same arithmetic wherever it stands.
type loop struct {
	ptr  map[string]reg.GPVirtual
	mask reg.VecVirtual // nil in the full steps
	off  int
}

// load returns eight values; masked lanes are zero.
func (l *loop) load(name string) reg.VecVirtual {
	y := YMM()
	m := Mem{Base: l.ptr[name], Disp: l.off}
	if l.mask != nil {
		VMASKMOVPS(m, l.mask, y)
	} else {
		VMOVUPS(m, y)
	}
	return y
}

func (l *loop) store(name string, y reg.VecVirtual) {
	m := Mem{Base: l.ptr[name], Disp: l.off}
	if l.mask != nil {
		VMASKMOVPS(y, l.mask, m)
	} else {
		VMOVUPS(y, m)
	}
}

// each emits body for blocks of eight values, unrolled as told, and once more
// under a mask. body's argument lane tells unrolled copies apart.
func each(pointers []string, unroll int, body func(l *loop, lane int)) {
	ptr := map[string]reg.GPVirtual{}
	for _, p := range pointers {
		ptr[p] = Load(Param(p), GP64()).(reg.GPVirtual)
	}
	n := Load(Param("n"), GP64()).(reg.GPVirtual)
	advance := func(values int) {
		for _, p := range pointers {
			ADDQ(imm(4*values), ptr[p])
		}
	}
	if unroll > 1 {
		SUBQ(imm(8*unroll), n)
		JLT(LabelRef("single"))
		Label("loop")
		for i := range unroll {
			body(&loop{ptr: ptr, off: 32 * i}, i)
		}
		advance(8 * unroll)
		SUBQ(imm(8*unroll), n)
		JGE(LabelRef("loop"))
		Label("single")
		ADDQ(imm(8*unroll), n)
	}
	SUBQ(Imm(8), n)
	JLT(LabelRef("tail"))
	Label("loop8")
	body(&loop{ptr: ptr}, 0)
	advance(8)
	SUBQ(Imm(8), n)
	JGE(LabelRef("loop8"))
	Label("tail")
	ADDQ(Imm(8), n)
	JZ(LabelRef("done"))
	table, mask := GP64(), YMM()
	LEAQ(maskTable, table)
	SHLQ(U8(2), n)
	SUBQ(n, table)
	VMOVUPS(Mem{Base: table, Disp: 32}, mask)
	body(&loop{ptr: ptr, mask: mask}, 0)
	Label("done")
}

var maskTable Mem

func broadcast(param string) reg.VecVirtual {
	x, y := Load(Param(param), XMM()).(reg.VecVirtual), YMM()
	VBROADCASTSS(x, y)
	return y
}

var constants = map[uint32]Mem{}

// constant returns the address of a float32 for broadcasting.
func constant(bits uint32) reg.VecVirtual {
	y := YMM()
	VBROADCASTSS(constMem(bits), y)
	return y
}

func constMem(bits uint32) Mem {
	m, ok := constants[bits]
	if !ok {
		panic("constant not declared")
	}
	return m
}

func f(x float64) uint32 { return math.Float32bits(float32(x)) }

// Constants of exp: range reduction by ln 2 in two parts, then a polynomial for
// e^r on |r| <= ln(2)/2 (coefficients of the Cephes library's expf).
var expBits = []uint32{
	f(math.Log2E), f(0.693359375), f(-2.12194440e-4),
	f(1.9875691500e-4), f(1.3981999507e-3), f(8.3334519073e-3), f(4.1665795894e-2), f(1.6666665459e-1), f(5.0000001201e-1),
	f(1), f(-87.33), f(88.37), 127 << 0, f(-1), f(math.Inf(-1)), 1 << 31,
	f(geluLinear), f(geluCubic), f(3 * geluCubic),
}

// The tanh form of GELU is x·sigmoid(geluLinear·x + geluCubic·x³): see
// kernel.GeGLU.
const (
	geluLinear = 1.5957691216057308
	geluCubic  = geluLinear * 0.044715
)

func declareConstants() {
	maskTable = GLOBL("lanes", RODATA|NOPTR)
	for i := range 16 {
		v := uint32(0)
		if i < 8 {
			v = 0xffffffff
		}
		DATA(4*i, U32(v))
	}
	table := GLOBL("constants", RODATA|NOPTR)
	for i, b := range expBits {
		DATA(4*i, U32(b))
		constants[b] = table.Offset(4 * i)
	}
}

// exp returns e^x, within about 1e-7, clamped where float32 ends; NaN stays NaN.
func exp(x reg.VecVirtual) reg.VecVirtual {
	c := func(i int) reg.VecVirtual { return constant(expBits[i]) }
	v, n, p := YMM(), YMM(), YMM()
	VMAXPS(x, c(10), v) // the second operand of maxps is returned for NaN
	VMINPS(v, c(11), v)
	VMULPS(c(0), v, n)
	VROUNDPS(Imm(8), n, n)
	VFNMADD231PS(c(1), n, v)
	VFNMADD231PS(c(2), n, v)
	VMOVUPS(c(3), p)
	for i := 4; i <= 8; i++ {
		VFMADD213PS(c(i), v, p)
	}
	sq := YMM()
	VMULPS(v, v, sq)
	VFMADD213PS(v, sq, p) // p·r² + r
	VADDPS(c(9), p, p)
	e := YMM()
	VCVTPS2DQ(n, e)
	VPADDD(c(12), e, e)
	VPSLLD(Imm(23), e, e)
	VMULPS(e, p, p)
	return p
}

// sigmoid returns 1/(1+e^-x).
func sigmoid(x reg.VecVirtual) reg.VecVirtual {
	neg := YMM()
	VXORPS(constant(1<<31), x, neg)
	e := exp(neg)
	one := constant(f(1))
	VADDPS(one, e, e)
	VDIVPS(e, one, e)
	return e
}

// sum4 adds four accumulators and their lanes, in one fixed order.
func horizontal(acc []reg.VecVirtual, op func(a, b, dst reg.VecVirtual)) reg.VecVirtual {
	for n := len(acc); n > 1; n /= 2 {
		for i := range n / 2 {
			op(acc[i+n/2], acc[i], acc[i])
		}
	}
	y := acc[0]
	hi, x := YMM(), YMM()
	VPERM2F128(U8(1), y, y, hi)
	op(hi, y, y)
	VPERMILPS(U8(0x4e), y, x)
	op(x, y, y)
	VPERMILPS(U8(0xb1), y, x)
	op(x, y, y)
	return y
}

func addPS(a, b, dst reg.VecVirtual) { VADDPS(a, b, dst) }
func maxPS(a, b, dst reg.VecVirtual) { VMAXPS(a, b, dst) }

func begin(name, signature string) {
	TEXT(name, NOSPLIT, signature)
	Pragma("noescape")
}

func end() {
	VZEROUPPER()
	RET()
}

func zeros(n int) []reg.VecVirtual {
	acc := make([]reg.VecVirtual, n)
	for i := range acc {
		acc[i] = YMM()
		VXORPS(acc[i], acc[i], acc[i])
	}
	return acc
}

func ret(y reg.VecVirtual) {
	Store(y.AsX(), ReturnIndex(0))
	end()
}

func vectors() {
	declareConstants()
	reductions()
	elementwise()
	adamw()
}

func reductions() {
	begin("dotAVX2", "func(x *float32, y *float32, n int) float32")
	acc := zeros(4)
	each([]string{"x", "y"}, 4, func(l *loop, i int) {
		VFMADD231PS(l.load("x"), l.load("y"), acc[i])
	})
	ret(horizontal(acc, addPS))

	begin("dot3AVX2", "func(x *float32, y *float32, z *float32, n int) float32")
	acc = zeros(4)
	each([]string{"x", "y", "z"}, 4, func(l *loop, i int) {
		p := l.load("x")
		VMULPS(l.load("y"), p, p)
		VFMADD231PS(l.load("z"), p, acc[i])
	})
	ret(horizontal(acc, addPS))

	begin("maxAVX2", "func(x *float32, n int) float32")
	inf := constant(f(math.Inf(-1)))
	acc = nil
	for range 4 {
		y := YMM()
		VMOVUPS(inf, y)
		acc = append(acc, y)
	}
	each([]string{"x"}, 4, func(l *loop, i int) {
		y := l.load("x")
		if l.mask != nil {
			VBLENDVPS(l.mask, y, inf, y)
		}
		VMAXPS(y, acc[i], acc[i])
	})
	ret(horizontal(acc, maxPS))

	begin("expSumAVX2", "func(y *float32, x *float32, n int, a float32, shift float32) float32")
	a, shift := broadcast("a"), broadcast("shift")
	acc = zeros(1)
	each([]string{"y", "x"}, 1, func(l *loop, i int) {
		x := l.load("x")
		VFMSUB213PS(shift, a, x)
		e := exp(x)
		l.store("y", e)
		if l.mask != nil {
			VANDPS(l.mask, e, e)
		}
		VADDPS(e, acc[i], acc[i])
	})
	ret(horizontal(acc, addPS))

	begin("dotBF16AVX2", "func(x *float32, y *uint16, n int) float32")
	x := Load(Param("x"), GP64()).(reg.GPVirtual)
	y := Load(Param("y"), GP64()).(reg.GPVirtual)
	n := Load(Param("n"), GP64()).(reg.GPVirtual)
	acc = zeros(4)
	SHRQ(U8(5), n) // whole blocks of 32; the caller adds the rest
	JZ(LabelRef("done"))
	Label("loop")
	for i := range 4 {
		VFMADD231PS(Mem{Base: x, Disp: 32 * i}, load8(Mem{Base: y, Disp: 16 * i}, true), acc[i])
	}
	ADDQ(imm(128), x)
	ADDQ(imm(64), y)
	DECQ(n)
	JNZ(LabelRef("loop"))
	Label("done")
	ret(horizontal(acc, addPS))
}

func elementwise() {
	begin("axpyAVX2", "func(y *float32, x *float32, n int, a float32)")
	a := broadcast("a")
	each([]string{"y", "x"}, 4, func(l *loop, _ int) {
		y := l.load("y")
		VFMADD231PS(l.load("x"), a, y)
		l.store("y", y)
	})
	end()

	begin("scaleAVX2", "func(y *float32, x *float32, n int, a float32)")
	a = broadcast("a")
	each([]string{"y", "x"}, 4, func(l *loop, _ int) {
		y := l.load("x")
		VMULPS(y, a, y)
		l.store("y", y)
	})
	end()

	begin("mulMulAVX2", "func(y *float32, x *float32, z *float32, n int, a float32)")
	a = broadcast("a")
	each([]string{"y", "x", "z"}, 4, func(l *loop, _ int) {
		y := l.load("x")
		VMULPS(y, a, y)
		VMULPS(l.load("z"), y, y)
		l.store("y", y)
	})
	end()

	begin("normGradAVX2", "func(dx *float32, dy *float32, gg *float32, x *float32, n int, a float32, b float32)")
	a, b := broadcast("a"), broadcast("b")
	each([]string{"dx", "dy", "gg", "x"}, 2, func(l *loop, _ int) {
		t, dx := l.load("dy"), l.load("dx")
		VMULPS(l.load("gg"), t, t)
		VFMADD231PS(t, a, dx)
		VFNMADD231PS(l.load("x"), b, dx)
		l.store("dx", dx)
	})
	end()

	begin("ropeAVX2", "func(x0 *float32, x1 *float32, cos *float32, sin *float32, n int)")
	each([]string{"x0", "x1", "cos", "sin"}, 1, func(l *loop, _ int) {
		p, q, c, s := l.load("x0"), l.load("x1"), l.load("cos"), l.load("sin")
		u, v := YMM(), YMM()
		VMULPS(s, q, u)
		VFMSUB231PS(c, p, u)
		VMULPS(s, p, v)
		VFMADD231PS(c, q, v)
		l.store("x0", u)
		l.store("x1", v)
	})
	end()

	begin("swigluAVX2", "func(h *float32, gg *float32, u *float32, n int)")
	each([]string{"h", "gg", "u"}, 1, func(l *loop, _ int) {
		g := l.load("gg")
		s := sigmoid(g)
		VMULPS(g, s, s)
		VMULPS(l.load("u"), s, s)
		l.store("h", s)
	})
	end()

	begin("swigluGradAVX2", "func(gg *float32, u *float32, dh *float32, n int)")
	each([]string{"gg", "u", "dh"}, 1, func(l *loop, _ int) {
		g := l.load("gg")
		s := sigmoid(g)
		silu, t, dh := YMM(), YMM(), l.load("dh")
		VMULPS(g, s, silu)
		VSUBPS(s, constant(f(1)), t)
		VFMADD213PS(s, silu, t) // silu·(1−s) + s
		VMULPS(l.load("u"), t, t)
		VMULPS(dh, t, t)
		VMULPS(dh, silu, silu)
		l.store("gg", t)
		l.store("u", silu)
	})
	end()

	// gate returns the argument of GELU's sigmoid, and x².
	gate := func(x reg.VecVirtual) (y, sq reg.VecVirtual) {
		y, sq = YMM(), YMM()
		VMULPS(x, x, sq)
		VMOVAPS(constant(f(geluLinear)), y)
		VFMADD231PS(constant(f(geluCubic)), sq, y)
		VMULPS(x, y, y)
		return y, sq
	}

	begin("gegluAVX2", "func(h *float32, gg *float32, u *float32, n int)")
	each([]string{"h", "gg", "u"}, 1, func(l *loop, _ int) {
		g := l.load("gg")
		y, _ := gate(g)
		s := sigmoid(y)
		VMULPS(g, s, s)
		VMULPS(l.load("u"), s, s)
		l.store("h", s)
	})
	end()

	begin("gegluGradAVX2", "func(gg *float32, u *float32, dh *float32, n int)")
	each([]string{"gg", "u", "dh"}, 1, func(l *loop, _ int) {
		g := l.load("gg")
		y, slope := gate(g)
		s := sigmoid(y)
		gelu, t, dy, dh := YMM(), YMM(), YMM(), l.load("dh")
		VMULPS(g, s, gelu)
		VMOVAPS(constant(f(geluLinear)), dy)
		VFMADD231PS(constant(f(3*geluCubic)), slope, dy)
		VSUBPS(s, constant(f(1)), t)
		VMULPS(gelu, t, t)
		VFMADD213PS(s, dy, t) // gelu·(1−s)·dy + s
		VMULPS(l.load("u"), t, t)
		VMULPS(dh, t, t)
		VMULPS(dh, gelu, gelu)
		l.store("gg", t)
		l.store("u", gelu)
	})
	end()

	begin("attnGradAVX2", "func(ds *float32, p *float32, n int, a float32, delta float32)")
	a, delta := broadcast("a"), broadcast("delta")
	each([]string{"ds", "p"}, 2, func(l *loop, _ int) {
		d, p := l.load("ds"), l.load("p")
		VSUBPS(delta, d, d)
		VMULPS(a, p, p)
		VMULPS(p, d, d)
		l.store("ds", d)
	})
	end()
}

// adamw reads its scalars in the order of kernel.AdamConst.
func adamw() {
	begin("adamwAVX2", "func(w *float32, gg *float32, m *float32, v *float32, n int, c *float32)")
	c := Load(Param("c"), GP64()).(reg.GPVirtual)
	field := func(i int) reg.VecVirtual {
		y := YMM()
		VBROADCASTSS(Mem{Base: c, Disp: 4 * i}, y)
		return y
	}
	each([]string{"w", "gg", "m", "v"}, 1, func(l *loop, _ int) {
		g, m, v := l.load("gg"), l.load("m"), l.load("v")
		t := YMM()
		VMULPS(field(1), g, t)
		VFMADD231PS(field(0), m, t) // m
		l.store("m", t)
		g2 := YMM()
		VMULPS(g, g, g2)
		VMULPS(field(3), g2, g2)
		VFMADD231PS(field(2), v, g2) // v
		l.store("v", g2)
		den := YMM()
		VSQRTPS(g2, den)
		VFMADD213PS(field(6), field(5), den)
		VDIVPS(den, t, t)
		w := l.load("w")
		VMULPS(field(7), w, w)
		VFNMADD231PS(field(4), t, w)
		l.store("w", w)
	})
	end()
}
