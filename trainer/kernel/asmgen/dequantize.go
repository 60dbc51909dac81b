package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// dequantize emits the decoding of blocks of 32 codes with one scale each: code
// times scale, where four-bit codes stand for themselves less 8 and a byte holds
// codes i (low) and i+16 (high) of its block.
func dequantize(bits int) {
	name, size := "dequantizeQ8AVX2", 32
	if bits == 4 {
		name, size = "dequantizeQ4AVX2", 16
	}
	TEXT(name, NOSPLIT, "func(dst *float32, src *byte, scales *float32, blocks int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64()).(reg.GPVirtual)
	src := Load(Param("src"), GP64()).(reg.GPVirtual)
	scales := Load(Param("scales"), GP64()).(reg.GPVirtual)
	blocks := Load(Param("blocks"), GP64()).(reg.GPVirtual)
	var low, offset reg.VecVirtual
	if bits == 4 {
		low, offset = broadcast32(0x0f0f0f0f), broadcast32(8)
	}
	Label("loop")
	scale := YMM()
	VBROADCASTSS(Mem{Base: scales}, scale)
	store := func(ints reg.VecVirtual, i int) {
		VCVTDQ2PS(ints, ints)
		VMULPS(scale, ints, ints)
		VMOVUPS(ints, Mem{Base: dst, Disp: 32 * i})
	}
	if bits == 8 {
		for i := range 4 {
			y := YMM()
			VPMOVSXBD(Mem{Base: src, Disp: 8 * i}, y)
			store(y, i)
		}
	} else {
		codes, high := XMM(), XMM()
		VMOVDQU(Mem{Base: src}, codes)
		VPSRLW(U8(4), codes, high)
		VPAND(low.AsX(), codes, codes)
		VPAND(low.AsX(), high, high)
		for i, x := range []reg.VecVirtual{codes, high} {
			y, z := YMM(), YMM()
			VPMOVZXBD(x, y)
			VPSRLDQ(U8(8), x, x)
			VPMOVZXBD(x, z)
			VPSUBD(offset, y, y)
			VPSUBD(offset, z, z)
			store(y, 2*i)
			store(z, 2*i+1)
		}
	}
	ADDQ(imm(size), src)
	ADDQ(imm(4), scales)
	ADDQ(imm(128), dst)
	DECQ(blocks)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// broadcast32 fills a register with a constant.
func broadcast32(v uint32) reg.VecVirtual {
	r, x, y := GP32(), XMM(), YMM()
	MOVL(U32(v), r)
	VMOVD(r, x)
	VPBROADCASTD(x, y)
	return y
}
