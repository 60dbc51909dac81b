package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// dotIntegers emits the products of a row that is rounded to blocks of 32 codes with
// rows of such blocks, which lie one after the other and are read from end to end: four
// rows side by side are faster from the cache, but slower from memory, where the weights
// are. codes and magnitudes are the left row's and their absolute values.
// Products of codes are summed up as integers, four to a lane, and lanes as float32,
// those of even and of odd blocks apart, each scaled by both blocks' scales: the same
// sums whichever instructions make the integers.
func dotIntegers(name string, prepare func(), fours func(magnitudes, codes, acc reg.VecVirtual)) {
	begin(name, "func(out *float32, codes *byte, magnitudes *byte, left *float32, w *byte, scales *float32, blocks int, rows int)")
	out := Load(Param("out"), GP64()).(reg.GPVirtual)
	codes := Load(Param("codes"), GP64()).(reg.GPVirtual)
	magnitudes := Load(Param("magnitudes"), GP64()).(reg.GPVirtual)
	left := Load(Param("left"), GP64()).(reg.GPVirtual)
	w := Load(Param("w"), GP64()).(reg.GPVirtual)
	scales := Load(Param("scales"), GP64()).(reg.GPVirtual)
	blocks := Load(Param("blocks"), GP64()).(reg.GPVirtual)
	rows := Load(Param("rows"), GP64()).(reg.GPVirtual)
	prepare()
	at, k := GP64(), GP64() // the place of a block's codes, and its number
	block := func(i int, acc reg.VecVirtual) {
		c, x, sum, both := YMM(), YMM(), YMM(), YMM()
		VMOVDQU(Mem{Base: w, Index: at, Scale: 1, Disp: 32 * i}, c)
		VPSIGNB(Mem{Base: codes, Index: at, Scale: 1, Disp: 32 * i}, c, c)
		VMOVDQU(Mem{Base: magnitudes, Index: at, Scale: 1, Disp: 32 * i}, x)
		fours(x, c, sum)
		VCVTDQ2PS(sum, sum)
		scale := YMM()
		VBROADCASTSS(Mem{Base: scales, Index: k, Scale: 4, Disp: 4 * i}, both)
		VBROADCASTSS(Mem{Base: left, Index: k, Scale: 4, Disp: 4 * i}, scale)
		VMULPS(scale, both, both)
		VFMADD231PS(sum, both, acc)
	}
	Label("row")
	acc := zeros(2)
	XORQ(at, at)
	MOVQ(U32(2), k)
	CMPQ(k, blocks)
	JGT(LabelRef("odd"))
	XORQ(k, k)
	last := GP64()
	LEAQ(Mem{Base: blocks, Disp: -1}, last)
	Label("two")
	block(0, acc[0])
	block(1, acc[1])
	ADDQ(imm(64), at)
	ADDQ(imm(2), k)
	CMPQ(k, last)
	JLT(LabelRef("two"))
	JE(LabelRef("single"))
	JMP(LabelRef("sum"))
	Label("odd")
	XORQ(k, k)
	Label("single")
	block(0, acc[0])
	Label("sum")
	sum := horizontal(acc, addPS)
	VMOVSS(sum.AsX(), Mem{Base: out})
	ADDQ(imm(4), out)
	LEAQ(Mem{Base: scales, Index: blocks, Scale: 4}, scales)
	MOVQ(blocks, k)
	SHLQ(U8(5), k)
	ADDQ(k, w)
	DECQ(rows)
	JNZ(LabelRef("row"))
	end()
}

func integers() {
	var ones reg.VecVirtual
	dotIntegers("dotIntegersAVX2", func() { ones = broadcast32(0x00010001) }, func(magnitudes, codes, acc reg.VecVirtual) {
		VPMADDUBSW(codes, magnitudes, acc) // two products of codes up to 127 fit into 16 bits
		VPMADDWD(ones, acc, acc)
	})
	dotIntegers("dotIntegersVNNI", func() {}, func(magnitudes, codes, acc reg.VecVirtual) {
		VPXOR(acc, acc, acc)
		// avo does not know it, Go's assembler does.
		Instruction(&ir.Instruction{Opcode: "VPDPBUSD", Operands: []Op{codes, magnitudes, acc}, Inputs: []Op{codes, magnitudes, acc}, Outputs: []Op{acc}})
	})
	quantizeLeft()
}

// quantizeLeft emits the rounding of blocks of 32 values to codes, their magnitudes
// and a scale. A block with a NaN has a scale that is NaN.
func quantizeLeft() {
	table := packedOrder()
	begin("quantizeLeftAVX2", "func(codes *byte, magnitudes *byte, scales *float32, x *float32, blocks int)")
	codes := Load(Param("codes"), GP64()).(reg.GPVirtual)
	magnitudes := Load(Param("magnitudes"), GP64()).(reg.GPVirtual)
	scales := Load(Param("scales"), GP64()).(reg.GPVirtual)
	x := Load(Param("x"), GP64()).(reg.GPVirtual)
	n := Load(Param("blocks"), GP64()).(reg.GPVirtual)
	positive, one, infinity := broadcast32(0x7fffffff), broadcast32(f(1)), broadcast32(0x7f800000)
	divisor, order := broadcast32(f(127)), YMM()
	VMOVDQU(table, order)
	Label("loop")
	var v [4]reg.VecVirtual
	most := zeros(4)
	for i := range v {
		v[i] = YMM()
		VMOVUPS(Mem{Base: x, Disp: 32 * i}, v[i])
		VPAND(positive, v[i], most[i])
	}
	// As integers, for there NaN is the largest.
	top := horizontal(most, func(a, b, dst reg.VecVirtual) { VPMAXSD(a, b, dst) })
	inverse, bounded := YMM(), YMM()
	VDIVPS(divisor, top, top)
	VMOVSS(top.AsX(), Mem{Base: scales})
	VDIVPS(top, one, inverse)
	VCMPPS(U8(17), infinity, inverse, bounded) // less: not so for the scale of zeros
	VANDPS(bounded, inverse, inverse)
	for i := range v {
		VMULPS(inverse, v[i], v[i])
		VCVTPS2DQ(v[i], v[i])
	}
	VPACKSSDW(v[1], v[0], v[0])
	VPACKSSDW(v[3], v[2], v[2])
	VPACKSSWB(v[2], v[0], v[0])
	VPERMD(v[0], order, v[0])
	VMOVDQU(v[0], Mem{Base: codes})
	VPABSB(v[0], v[0])
	VMOVDQU(v[0], Mem{Base: magnitudes})
	ADDQ(imm(32), codes)
	ADDQ(imm(32), magnitudes)
	ADDQ(imm(4), scales)
	ADDQ(imm(128), x)
	DECQ(n)
	JNZ(LabelRef("loop"))
	end()
}

// packedOrder is the permutation that undoes what packing within halves does.
func packedOrder() Mem {
	m := GLOBL("order", RODATA|NOPTR)
	for i, v := range []uint32{0, 4, 1, 5, 2, 6, 3, 7} {
		DATA(4*i, U32(v))
	}
	return m
}

// dotRowsBF16 emits the products of a row of n values, whole blocks of 32, with rows
// of bfloat16 that lie one after the other: each as dotBF16AVX2 gives it.
func dotRowsBF16() {
	begin("dotRowsBF16AVX2", "func(out *float32, x *float32, w *uint16, n int, rows int)")
	out := Load(Param("out"), GP64()).(reg.GPVirtual)
	x := Load(Param("x"), GP64()).(reg.GPVirtual)
	w := Load(Param("w"), GP64()).(reg.GPVirtual)
	n := Load(Param("n"), GP64()).(reg.GPVirtual)
	rows := Load(Param("rows"), GP64()).(reg.GPVirtual)
	Label("row")
	acc, at := zeros(4), GP64()
	XORQ(at, at)
	Label("loop")
	for i := range 4 {
		VFMADD231PS(Mem{Base: x, Index: at, Scale: 4, Disp: 32 * i}, load8(Mem{Base: w, Index: at, Scale: 2, Disp: 16 * i}, true), acc[i])
	}
	ADDQ(imm(32), at)
	CMPQ(at, n)
	JNE(LabelRef("loop"))
	sum := horizontal(acc, addPS)
	VMOVSS(sum.AsX(), Mem{Base: out})
	ADDQ(imm(4), out)
	LEAQ(Mem{Base: w, Index: n, Scale: 2}, w)
	DECQ(rows)
	JNZ(LabelRef("row"))
	end()
}
