package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// halves emits the assembly of package weights: the conversions between float32 and
// the two formats of 16 bits, for blocks of 32 values.
func halves() {
	list := []uint32{1, 0x7fff, 0x40}
	table := GLOBL("constants", RODATA|NOPTR)
	for i, b := range list {
		DATA(4*i, U32(b))
		constants[b] = table.Offset(4 * i)
	}
	widen := func(name string, load func(m Mem, y reg.VecVirtual)) {
		begin(name, "func(dst *float32, src *byte, blocks int)")
		convertBlocks(2, 4, func(dst, src reg.Register, i int) {
			y := YMM()
			load(Mem{Base: src, Disp: 16 * i}, y)
			VMOVUPS(y, Mem{Base: dst, Disp: 32 * i})
		})
	}
	widen("fromF16", func(m Mem, y reg.VecVirtual) { VCVTPH2PS(m, y) })
	widen("fromBF16", func(m Mem, y reg.VecVirtual) {
		VPMOVZXWD(m, y)
		VPSLLD(Imm(16), y, y)
	})
	begin("toF16", "func(dst *byte, src *float32, blocks int)")
	convertBlocks(4, 2, func(dst, src reg.Register, i int) {
		y := YMM()
		VMOVUPS(Mem{Base: src, Disp: 32 * i}, y)
		VCVTPS2PH(U8(0), y, Mem{Base: dst, Disp: 16 * i}) // to nearest, ties to even
	})
	begin("toBF16", "func(dst *byte, src *float32, blocks int)")
	one, most, quiet := constant(1), constant(0x7fff), constant(0x40)
	convertBlocks(4, 2, func(dst, src reg.Register, i int) {
		u, upper, odd, nan := YMM(), YMM(), YMM(), YMM()
		VMOVUPS(Mem{Base: src, Disp: 32 * i}, u)
		VCMPPS(U8(3), u, u, nan) // unordered with itself
		VPSRLD(Imm(16), u, upper)
		VPAND(one, upper, odd)
		VPADDD(most, u, u)
		VPADDD(odd, u, u)
		VPSRLD(Imm(16), u, u)
		VPOR(quiet, upper, upper)
		VBLENDVPS(nan, upper, u, u)
		high := XMM()
		VEXTRACTI128(U8(1), u, high)
		VPACKUSDW(high, u.AsX(), high)
		VMOVDQU(high, Mem{Base: dst, Disp: 16 * i})
	})
}

// convertBlocks emits a loop over blocks of 32 values of so many bytes, eight at a
// time.
func convertBlocks(from, to int, eight func(dst, src reg.Register, i int)) {
	dst := Load(Param("dst"), GP64()).(reg.GPVirtual)
	src := Load(Param("src"), GP64()).(reg.GPVirtual)
	n := Load(Param("blocks"), GP64()).(reg.GPVirtual)
	Label("loop")
	for i := range 4 {
		eight(dst, src, i)
	}
	ADDQ(imm(32*from), src)
	ADDQ(imm(32*to), dst)
	DECQ(n)
	JNZ(LabelRef("loop"))
	end()
}
