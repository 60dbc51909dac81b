package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The searches of package gguf's encoders. Their sums are plain sums in the order of
// the values, never fused, so a lane of a register is one group of values: value i of
// all groups stands side by side, and every lane does what the loop in Go does.

// lanes is a width of registers with the operations whose form depends on it.
type lanes struct {
	name   string
	groups int
	vec    func() reg.VecVirtual
	mask   func() reg.Register
	// compare sets the lanes of m in which a and b are as predicate says.
	compare func(predicate uint8, b Op, a, m reg.Register)
	// choose gives b where m is set and a elsewhere.
	choose func(m reg.Register, b, a Op, dst reg.Register)
	and    func(a, b, dst Op)
	xor    func(a, b, dst Op)
}

var (
	eight = lanes{
		name: "AVX2", groups: 8, vec: YMM,
		mask:    func() reg.Register { return YMM() },
		compare: func(p uint8, b Op, a, m reg.Register) { VCMPPS(U8(p), b, a, m) },
		choose:  func(m reg.Register, b, a Op, dst reg.Register) { VBLENDVPS(m, b, a, dst) },
		and:     func(a, b, dst Op) { VPAND(a, b, dst) },
		xor:     func(a, b, dst Op) { VPXOR(a, b, dst) },
	}
	sixteen = lanes{
		name: "AVX512", groups: 16, vec: ZMM,
		mask:    func() reg.Register { return K() },
		compare: func(p uint8, b Op, a, m reg.Register) { VCMPPS(U8(p), b, a, m) },
		choose:  func(m reg.Register, b, a Op, dst reg.Register) { VBLENDMPS(b, a, m, dst) },
		and:     func(a, b, dst Op) { VPANDD(a, b, dst) },
		xor:     func(a, b, dst Op) { VPXORD(a, b, dst) },
	}
)

// Predicates of VCMPPS: the ordered ones are false for NaN.
const (
	equal          = 0
	less           = 17
	lessEqual      = 18
	notEqual       = 4 // true for NaN, as Go's != is
	greaterOrEqual = 29
	greater        = 30
)

// blocks emits the assembly of package gguf.
func blocks() {
	declareBlockConstants()
	transpose("transpose8", "float32", 4, 32, func(m Mem) reg.VecVirtual { return load8(m, false) })
	for _, l := range []lanes{eight, sixteen} {
		l.searchScaleMin()
		l.searchScale()
	}
	levels()
	encodeQ8()
	within()
}

const (
	magic   = 0x4b400000 // 1.5 * 2^23, as float32
	signBit = 1 << 31
)

func declareBlockConstants() {
	list := []uint32{
		magic, 0x007fffff, 0x00400000, 15, 31, ^uint32(31), signBit, ^uint32(signBit), // ^31 is -32
		f(0), f(0.1), f(15), f(1), f(1.0 / 32), f(-32), f(1e-15), f(127), f(0.5), 0x7f800000,
	}
	table := GLOBL("constants", RODATA|NOPTR)
	for i, b := range list {
		DATA(4*i, U32(b))
		constants[b] = table.Offset(4 * i)
	}
	steps := GLOBL("steps", RODATA|NOPTR)
	for i := range 21 { // of searchScaleMin, with the loop's own roundings
		v := float32(0.1) * float32(i)
		v += -1
		v += 15
		DATA(4*i, U32(f(float64(v))))
	}
	stepsMin = steps
	steps = GLOBL("divisors", RODATA|NOPTR)
	at := 0
	for i := -9; i <= 9; i++ { // of searchScale
		if i == 0 {
			continue
		}
		v := float32(0.1) * float32(i)
		v += 32
		DATA(4*at, U32(f(float64(-v))))
		at++
	}
	divisors = steps
	blockOrder = packedOrder()
}

var stepsMin, divisors Mem

// constant fills a register with a constant.
func (l lanes) constant(bits uint32) reg.VecVirtual {
	v := l.vec()
	VBROADCASTSS(constMem(bits), v)
	return v
}

// at is the i-th register's worth of values from p on.
func (l lanes) at(p reg.Register, i int) Mem { return Mem{Base: p, Disp: 4 * l.groups * i} }

func (l lanes) zero() reg.VecVirtual {
	v := l.vec()
	l.xor(v, v, v)
	return v
}

// nearestLevel turns v to the nearest integer, ties to even, within bounds, as a
// float32: package gguf's nearest and clamp, bit by bit.
func (l lanes) nearestLevel(v reg.VecVirtual, c *levelConstants) {
	VADDPS(c.magic, v, v)
	l.and(c.mantissa, v, v)
	VPSUBD(c.bias, v, v)
	VPMAXSD(c.low, v, v)
	VPMINSD(c.high, v, v)
	VCVTDQ2PS(v, v)
}

type levelConstants struct{ magic, mantissa, bias, low, high reg.VecVirtual }

func (l lanes) levelConstants(low, high uint32) *levelConstants {
	c := &levelConstants{l.constant(magic), l.constant(0x007fffff), l.constant(0x00400000), nil, l.constant(high)}
	if low == 0 {
		c.low = l.zero()
	} else {
		c.low = l.constant(low)
	}
	return c
}

// over emits body for values 0 to n-1, four at a time; body's argument gives the
// address of one of the four in an array.
func (l lanes) over(label string, n int, pointers map[string]reg.Register, body func(at func(name string) Mem)) {
	offset := GP64()
	XORQ(offset, offset)
	Label(label)
	for u := range 4 {
		body(func(name string) Mem {
			return Mem{Base: pointers[name], Index: offset, Scale: 1, Disp: 4 * l.groups * u}
		})
	}
	ADDQ(imm(16*l.groups), offset)
	CMPQ(offset, U32(4*l.groups*n))
	JNE(LabelRef(label))
}

// searchScaleMin emits package gguf's function of that name, and the weights before
// it, for as many groups of 32 values as there are lanes. scratch holds the weights,
// the levels, and seven registers of what the loop keeps.
func (l lanes) searchScaleMin() {
	begin("searchScaleMin"+l.name, "func(x *float32, scratch *float32, scales *float32, mins *float32)")
	x := Load(Param("x"), GP64()).(reg.GPVirtual)
	w := Load(Param("scratch"), GP64()).(reg.GPVirtual)
	levels, state := GP64(), GP64()
	LEAQ(l.at(w, 32), levels)
	LEAQ(l.at(w, 64), state)
	pointers := map[string]reg.Register{"x": x, "w": w, "levels": levels}
	const (
		high = iota
		low
		sumW
		sumX
		best
		scale
		flat
	)
	keep := func(i int) Mem { return l.at(state, i) }

	squares := l.zero()
	l.over("squares", 32, pointers, func(at func(string) Mem) {
		v := l.vec()
		VMOVUPS(at("x"), v)
		VMULPS(v, v, v)
		VADDPS(v, squares, squares)
	})
	mean := l.vec()
	VMULPS(l.constant(f(1.0/32)), squares, mean)
	VSQRTPS(mean, mean)
	positive := l.constant(^uint32(signBit))
	bottom, top, weights, weighted := l.vec(), l.vec(), l.zero(), l.zero()
	VMOVUPS(l.at(x, 0), bottom)
	VMOVUPS(l.at(x, 0), top)
	l.over("weights", 32, pointers, func(at func(string) Mem) {
		v, a := l.vec(), l.vec()
		VMOVUPS(at("x"), v)
		l.and(positive, v, a)
		VADDPS(a, mean, a)
		VMOVUPS(a, at("w"))
		VMINPS(v, bottom, bottom)
		VMAXPS(v, top, top)
		VADDPS(a, weights, weights)
		VMULPS(v, a, a)
		VADDPS(a, weighted, weighted)
	})
	VMINPS(l.zero(), bottom, bottom)
	VMOVUPS(top, keep(high))
	VMOVUPS(bottom, keep(low))
	VMOVUPS(bottom, keep(flat))
	VMOVUPS(weights, keep(sumW))
	VMOVUPS(weighted, keep(sumX))

	c := l.levelConstants(0, 15)
	// levelsOf stores the levels of all values at one step size and adds up what add
	// does with them.
	levelsOf := func(label string, per, low reg.VecVirtual, add func(v Mem, level, weight reg.VecVirtual)) {
		l.over(label, 32, pointers, func(at func(string) Mem) {
			level, weight := l.vec(), l.vec()
			VMOVUPS(at("x"), level)
			VSUBPS(low, level, level)
			VMULPS(per, level, level)
			l.nearestLevel(level, c)
			VMOVUPS(level, at("levels"))
			if add != nil {
				VMULPS(at("w"), level, weight)
				add(at("x"), level, weight)
			}
		})
	}
	// errorOf is the weighted sum of the squares of the errors of a line.
	errorOf := func(label string, scale, low reg.VecVirtual) reg.VecVirtual {
		sum := l.zero()
		l.over(label, 32, pointers, func(at func(string) Mem) {
			d := l.vec()
			VMULPS(at("levels"), scale, d)
			VADDPS(low, d, d)
			VSUBPS(at("x"), d, d)
			VMULPS(d, d, d)
			VMULPS(at("w"), d, d)
			VADDPS(d, sum, sum)
		})
		return sum
	}
	per, s := l.vec(), l.vec()
	VSUBPS(bottom, top, per)
	VDIVPS(per, l.constant(f(15)), per)
	VDIVPS(per, l.constant(f(1)), s)
	levelsOf("first", per, bottom, nil)
	VMOVUPS(s, keep(scale))
	VMOVUPS(errorOf("firstError", s, bottom), keep(best))

	table, count := GP64(), GP64()
	LEAQ(stepsMin, table)
	MOVQ(U32(21), count)
	Label("steps")
	per, span, bottom := l.vec(), l.vec(), l.vec()
	VMOVUPS(keep(low), bottom)
	VMOVUPS(keep(high), span)
	VSUBPS(bottom, span, span)
	VBROADCASTSS(Mem{Base: table}, per)
	VDIVPS(span, per, per)
	sumL, sumL2, sumXL := l.zero(), l.zero(), l.zero()
	levelsOf("levels", per, bottom, func(v Mem, level, weight reg.VecVirtual) {
		VADDPS(weight, sumL, sumL)
		VMULPS(weight, level, level)
		VADDPS(level, sumL2, sumL2)
		VMULPS(v, weight, weight)
		VADDPS(weight, sumXL, sumXL)
	})
	det, t, m := l.vec(), l.vec(), l.vec()
	s = l.vec()
	VMULPS(keep(sumW), sumL2, det)
	VMULPS(sumL, sumL, t)
	VSUBPS(t, det, det)
	VMULPS(keep(sumW), sumXL, s)
	VMULPS(keep(sumX), sumL, t)
	VSUBPS(t, s, s)
	VDIVPS(det, s, s)
	VMULPS(keep(sumX), sumL2, m)
	VMULPS(sumXL, sumL, t)
	VSUBPS(t, m, m)
	VDIVPS(det, m, m)
	above, none := l.mask(), l.zero()
	l.compare(greater, none, m, above)
	VDIVPS(sumL2, sumXL, t)
	l.choose(above, t, s, s)
	l.choose(above, none, m, m)
	// Where det <= 0 there is no line: its error becomes that of the best.
	old, unfit := l.vec(), l.mask()
	err := errorOf("error", s, m)
	VMOVUPS(keep(best), old)
	l.compare(lessEqual, l.zero(), det, unfit)
	l.choose(unfit, old, err, err)
	better := l.mask()
	l.compare(less, old, err, better)
	l.choose(better, err, old, err)
	VMOVUPS(err, keep(best))
	VMOVUPS(keep(scale), old)
	l.choose(better, s, old, s)
	VMOVUPS(s, keep(scale))
	VMOVUPS(keep(low), old)
	l.choose(better, m, old, m)
	VMOVUPS(m, keep(low))
	ADDQ(Imm(4), table)
	DECQ(count)
	JNZ(LabelRef("steps"))

	// Values that are all the same have no scale.
	even, bottom, first := l.mask(), l.vec(), l.vec()
	VMOVUPS(keep(flat), first)
	VMOVUPS(keep(high), t)
	l.compare(equal, first, t, even)
	VMOVUPS(keep(scale), s)
	l.choose(even, l.zero(), s, s)
	VMOVUPS(keep(low), bottom)
	l.choose(even, first, bottom, bottom)
	l.xor(l.constant(signBit), bottom, bottom)
	out := Load(Param("scales"), GP64()).(reg.GPVirtual)
	VMOVUPS(s, Mem{Base: out})
	out = Load(Param("mins"), GP64()).(reg.GPVirtual)
	VMOVUPS(bottom, Mem{Base: out})
	end()
}

// searchScale emits package gguf's function of that name for as many groups of 16
// values as there are lanes. scratch holds the squares and the cubes of the values.
func (l lanes) searchScale() {
	begin("searchScale"+l.name, "func(x *float32, scratch *float32, scales *float32)")
	x := Load(Param("x"), GP64()).(reg.GPVirtual)
	squares := Load(Param("scratch"), GP64()).(reg.GPVirtual)
	cubes := GP64()
	LEAQ(l.at(squares, 16), cubes)
	pointers := map[string]reg.Register{"x": x, "squares": squares, "cubes": cubes}
	top, distance, positive := l.zero(), l.zero(), l.constant(^uint32(signBit))
	l.over("largest", 16, pointers, func(at func(string) Mem) {
		v, a, farther := l.vec(), l.vec(), l.mask()
		VMOVUPS(at("x"), v)
		l.and(positive, v, a)
		l.compare(greater, distance, a, farther)
		l.choose(farther, v, top, top)
		l.choose(farther, a, distance, distance)
		VMULPS(v, v, a)
		VMOVUPS(a, at("squares"))
		VMULPS(v, a, a)
		VMOVUPS(a, at("cubes"))
	})
	c := l.levelConstants(^uint32(31), 31)
	try := func(label string, per reg.VecVirtual) (sumXL, sumL2 reg.VecVirtual) {
		sumXL, sumL2 = l.zero(), l.zero()
		l.over(label, 16, pointers, func(at func(string) Mem) {
			level, t := l.vec(), l.vec()
			VMULPS(at("x"), per, level)
			l.nearestLevel(level, c)
			VMULPS(at("cubes"), level, t)
			VADDPS(t, sumXL, sumXL)
			VMULPS(at("squares"), level, t)
			VMULPS(level, t, t)
			VADDPS(t, sumL2, sumL2)
		})
		return sumXL, sumL2
	}
	per, scale, best := l.vec(), l.vec(), l.vec()
	VDIVPS(top, l.constant(f(-32)), per)
	sumXL, sumL2 := try("first", per)
	some := l.mask()
	l.compare(notEqual, l.zero(), sumL2, some)
	VDIVPS(sumL2, sumXL, scale)
	l.choose(some, scale, l.zero(), scale)
	VMULPS(sumXL, scale, best)
	table, count := GP64(), GP64()
	LEAQ(divisors, table)
	MOVQ(U32(18), count)
	Label("steps")
	VBROADCASTSS(Mem{Base: table}, per)
	VDIVPS(top, per, per)
	sumXL, sumL2 = try("step", per)
	// Better is where sumL2 > 0 and sumXL² > best·sumL2; where sumL2 is not, its
	// square is taken as 0 on both sides.
	t, u, m := l.vec(), l.vec(), l.mask()
	VMULPS(sumXL, sumXL, t)
	VMULPS(sumL2, best, u)
	l.compare(greater, l.zero(), sumL2, m)
	l.choose(m, t, l.zero(), t)
	l.choose(m, u, l.zero(), u)
	better := l.mask()
	l.compare(greater, u, t, better)
	VDIVPS(sumL2, sumXL, t)
	VMULPS(sumXL, t, u)
	l.choose(better, t, scale, scale)
	l.choose(better, u, best, best)
	ADDQ(Imm(4), table)
	DECQ(count)
	JNZ(LabelRef("steps"))
	least := l.mask()
	l.compare(less, l.constant(f(1e-15)), distance, least)
	l.choose(least, l.zero(), scale, scale)
	out := Load(Param("scales"), GP64()).(reg.GPVirtual)
	VMOVUPS(scale, Mem{Base: out})
	end()
}

// levels emits the last step of both formats: (x+offset)/step, to the nearest
// integer from low to high, plus lift, as bytes. Sixteen values share a step and an
// offset; where the step is 0, the level is 0 (plus lift).
func levels() {
	begin("levelsAVX2", "func(q *byte, x *float32, steps *float32, offsets *float32, groups int, low int, high int, lift int)")
	q := Load(Param("q"), GP64()).(reg.GPVirtual)
	x := Load(Param("x"), GP64()).(reg.GPVirtual)
	steps := Load(Param("steps"), GP64()).(reg.GPVirtual)
	offsets := Load(Param("offsets"), GP64()).(reg.GPVirtual)
	n := Load(Param("groups"), GP64()).(reg.GPVirtual)
	bound := func(param string) reg.VecVirtual {
		r, v := Load(Param(param), GP64()).(reg.GPVirtual), YMM()
		VMOVD(r.As32(), v.AsX())
		VPBROADCASTD(v.AsX(), v)
		return v
	}
	low, high, lift := bound("low"), bound("high"), bound("lift")
	zero, plus, mantissa, bias := eight.zero(), constant(magic), constant(0x007fffff), constant(0x00400000)
	Label("loop")
	step, offset, blank := YMM(), YMM(), YMM()
	VBROADCASTSS(Mem{Base: steps}, step)
	VBROADCASTSS(Mem{Base: offsets}, offset)
	VCMPPS(U8(equal), zero, step, blank)
	var v [2]reg.VecVirtual
	for i := range v {
		v[i] = YMM()
		VADDPS(Mem{Base: x, Disp: 32 * i}, offset, v[i])
		VDIVPS(step, v[i], v[i])
		VADDPS(plus, v[i], v[i])
		VPAND(mantissa, v[i], v[i])
		VPSUBD(bias, v[i], v[i])
		VPMAXSD(low, v[i], v[i])
		VPMINSD(high, v[i], v[i])
		VPANDN(v[i], blank, v[i])
		VPADDD(lift, v[i], v[i])
	}
	VPACKSSDW(v[1], v[0], v[0])
	VPERMQ(U8(0xd8), v[0], v[0])
	upper := XMM()
	VEXTRACTI128(U8(1), v[0], upper)
	VPACKUSWB(upper, v[0].AsX(), upper)
	VMOVDQU(upper, Mem{Base: q})
	ADDQ(imm(16), q)
	ADDQ(imm(64), x)
	ADDQ(imm(4), steps)
	ADDQ(imm(4), offsets)
	DECQ(n)
	JNZ(LabelRef("loop"))
	end()
}

// encodeQ8 emits the encoder of blocks of Q8_0: 32 values each become a scale in half
// precision and 32 bytes.
func encodeQ8() {
	begin("encodeQ8AVX2", "func(dst *byte, x *float32, blocks int)")
	dst := Load(Param("dst"), GP64()).(reg.GPVirtual)
	x := Load(Param("x"), GP64()).(reg.GPVirtual)
	n := Load(Param("blocks"), GP64()).(reg.GPVirtual)
	positive, sign, one, half := constant(^uint32(signBit)), constant(signBit), constant(f(1)), constant(f(0.5))
	divisor := constant(f(127))
	Label("loop")
	var v [4]reg.VecVirtual
	most := zeros(4)
	for i := range v {
		v[i] = YMM()
		VMOVUPS(Mem{Base: x, Disp: 32 * i}, v[i])
		VANDPS(positive, v[i], most[i])
	}
	top := horizontal(most, maxPS)
	scale, inverse, bounded := YMM(), YMM(), YMM()
	VDIVPS(divisor, top, scale)
	VDIVPS(scale, one, inverse)
	VCMPPS(U8(less), infinity(), inverse, bounded) // 0 for the scale of zeros
	VANDPS(bounded, inverse, inverse)
	VCVTPS2PH(U8(0), scale.AsX(), scale.AsX())
	VPEXTRW(U8(0), scale.AsX(), Mem{Base: dst})
	for i := range v {
		whole, rest := YMM(), YMM()
		VMULPS(inverse, v[i], v[i])
		VROUNDPS(Imm(11), v[i], whole) // towards zero
		VSUBPS(whole, v[i], rest)
		VANDPS(positive, rest, rest)
		VCMPPS(U8(greaterOrEqual), half, rest, rest)
		VANDPS(sign, v[i], v[i])
		VORPS(one, v[i], v[i])
		VANDPS(rest, v[i], v[i])
		VADDPS(v[i], whole, whole)
		VCVTPS2DQ(whole, v[i])
	}
	VPACKSSDW(v[1], v[0], v[0])
	VPACKSSDW(v[3], v[2], v[2])
	VPACKSSWB(v[2], v[0], v[0])
	order := YMM()
	VMOVDQU(blockOrder, order)
	VPERMD(v[0], order, v[0])
	VMOVDQU(v[0], Mem{Base: dst, Disp: 2})
	ADDQ(imm(34), dst)
	ADDQ(imm(128), x)
	DECQ(n)
	JNZ(LabelRef("loop"))
	end()
}

// within emits the check that the absolute values of blocks of 32 are at most limit;
// NaN is not.
func within() {
	begin("withinAVX2", "func(x *float32, blocks int, limit float32) bool")
	x := Load(Param("x"), GP64()).(reg.GPVirtual)
	n := Load(Param("blocks"), GP64()).(reg.GPVirtual)
	limit, positive, all := broadcast("limit"), constant(^uint32(signBit)), YMM()
	VPCMPEQD(all, all, all)
	Label("loop")
	for i := range 4 {
		v := YMM()
		VANDPS(Mem{Base: x, Disp: 32 * i}, positive, v)
		VCMPPS(U8(lessEqual), limit, v, v)
		VANDPS(v, all, all)
	}
	ADDQ(imm(128), x)
	DECQ(n)
	JNZ(LabelRef("loop"))
	bits, yes := GP32(), GP8()
	VMOVMSKPS(all, bits)
	CMPL(bits, Imm(0xff))
	SETEQ(yes)
	Store(yes, ReturnIndex(0))
	end()
}

var blockOrder Mem

func infinity() reg.VecVirtual { return constant(0x7f800000) }
