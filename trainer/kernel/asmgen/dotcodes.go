package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// dotCodes emits the scalar product of float32 values with blocks of 32 codes,
// laid out as dequantize says: the codes of a block are multiplied and summed up
// first, and that sum by the block's scale once. Two blocks' sums are under way
// at a time, so that no multiply-add waits for the one before it.
func dotCodes(bits int) {
	name, size := "dotQ8AVX2", 32
	if bits == 4 {
		name, size = "dotQ4AVX2", 16
	}
	begin(name, "func(x *float32, src *byte, scales *float32, blocks int) float32")
	x := Load(Param("x"), GP64()).(reg.GPVirtual)
	src := Load(Param("src"), GP64()).(reg.GPVirtual)
	scales := Load(Param("scales"), GP64()).(reg.GPVirtual)
	blocks := Load(Param("blocks"), GP64()).(reg.GPVirtual)
	var low, offset reg.VecVirtual
	if bits == 4 {
		low, offset = broadcast32(0x0f0f0f0f), broadcast32(8)
	}
	acc := zeros(2)
	Label("loop")
	var sums [2]reg.VecVirtual
	for i, code := range blockCodes(bits, src, low, offset) {
		VCVTDQ2PS(code, code)
		if i < 2 {
			VMULPS(Mem{Base: x, Disp: 32 * i}, code, code)
			sums[i] = code
			continue
		}
		VFMADD231PS(Mem{Base: x, Disp: 32 * i}, code, sums[i%2])
	}
	scale := YMM()
	VBROADCASTSS(Mem{Base: scales}, scale)
	VFMADD231PS(sums[0], scale, acc[0])
	VFMADD231PS(sums[1], scale, acc[1])
	ADDQ(imm(size), src)
	ADDQ(imm(4), scales)
	ADDQ(imm(128), x)
	DECQ(blocks)
	JNZ(LabelRef("loop"))
	ret(horizontal(acc, addPS))
}

// blockCodes loads a block's 32 codes as integers, eight to a register.
func blockCodes(bits int, src reg.GPVirtual, low, offset reg.VecVirtual) (out [4]reg.VecVirtual) {
	for i := range out {
		out[i] = YMM()
	}
	if bits == 8 {
		for i, y := range out {
			VPMOVSXBD(Mem{Base: src, Disp: 8 * i}, y)
		}
		return out
	}
	codes, high := XMM(), XMM()
	VMOVDQU(Mem{Base: src}, codes)
	VPSRLW(U8(4), codes, high)
	VPAND(low.AsX(), codes, codes)
	VPAND(low.AsX(), high, high)
	for i, half := range []reg.VecVirtual{codes, high} {
		VPMOVZXBD(half, out[2*i])
		VPSRLDQ(U8(8), half, half)
		VPMOVZXBD(half, out[2*i+1])
		VPSUBD(offset, out[2*i], out[2*i])
		VPSUBD(offset, out[2*i+1], out[2*i+1])
	}
	return out
}
