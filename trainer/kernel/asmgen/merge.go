package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// mergeRow emits row += scale·b·A in float64 for blocks of 16 values. The product of
// two float32 is exact in float64, so that its sum may be fused; the last two steps
// are not.
func mergeRow() {
	begin("mergeRowAVX2", "func(row *float32, b *float32, a *float32, rank int, stride int, blocks int, scale float64)")
	row := Load(Param("row"), GP64()).(reg.GPVirtual)
	b := Load(Param("b"), GP64()).(reg.GPVirtual)
	a := Load(Param("a"), GP64()).(reg.GPVirtual)
	rank := Load(Param("rank"), GP64()).(reg.GPVirtual)
	stride := Load(Param("stride"), GP64()).(reg.GPVirtual)
	blocks := Load(Param("blocks"), GP64()).(reg.GPVirtual)
	x, scale := Load(Param("scale"), XMM()).(reg.VecVirtual), YMM()
	VBROADCASTSD(x, scale)
	SHLQ(U8(2), stride)
	Label("block")
	at, k := GP64(), GP64()
	MOVQ(a, at)
	XORQ(k, k)
	sum := zeros(4)
	Label("rank")
	factor := YMM()
	VBROADCASTSS(Mem{Base: b, Index: k, Scale: 4}, factor.AsX())
	VCVTPS2PD(factor.AsX(), factor)
	for i := range sum {
		v := YMM()
		VCVTPS2PD(Mem{Base: at, Disp: 16 * i}, v)
		VFMADD231PD(v, factor, sum[i])
	}
	ADDQ(stride, at)
	INCQ(k)
	CMPQ(k, rank)
	JNE(LabelRef("rank"))
	for i := range sum {
		v := YMM()
		VCVTPS2PD(Mem{Base: row, Disp: 16 * i}, v)
		VMULPD(scale, sum[i], sum[i])
		VADDPD(sum[i], v, v)
		VCVTPD2PSY(v, v.AsX())
		VMOVUPS(v.AsX(), Mem{Base: row, Disp: 16 * i})
	}
	ADDQ(imm(64), row)
	ADDQ(imm(64), a)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	end()
}
