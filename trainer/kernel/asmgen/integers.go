package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// rowsAtOnce is how many rows of codes dotIntegers reads side by side, so that one
// loading of the left operand serves them all and no sum waits for its last addition.
const rowsAtOnce = 4

// dotIntegers emits the products of a row that is rounded to blocks of 32 codes with
// rows of such blocks, which lie one after the other. codes and magnitudes are the
// left row's and their absolute values. Products of codes are summed up as integers,
// four to a lane, and lanes as float32 in the order of the blocks, each scaled by both
// blocks' scales: the same sums whichever instructions make the integers.
func dotIntegers(name string, prepare func(), fours func(magnitudes, codes, acc reg.VecVirtual)) {
	begin(name, "func(out *float32, codes *byte, magnitudes *byte, left *float32, w *byte, scales *float32, blocks int, rows int)")
	out := Load(Param("out"), GP64()).(reg.GPVirtual)
	codes := Load(Param("codes"), GP64()).(reg.GPVirtual)
	magnitudes := Load(Param("magnitudes"), GP64()).(reg.GPVirtual)
	left := Load(Param("left"), GP64()).(reg.GPVirtual)
	w := Load(Param("w"), GP64()).(reg.GPVirtual)
	scales := Load(Param("scales"), GP64()).(reg.GPVirtual)
	bytes := Load(Param("blocks"), GP64()).(reg.GPVirtual) // of a row of codes
	rows := Load(Param("rows"), GP64()).(reg.GPVirtual)
	prepare()
	scaleBytes := GP64()
	MOVQ(bytes, scaleBytes)
	SHLQ(U8(5), bytes)
	SHLQ(U8(2), scaleBytes)

	// step does n rows; the pointers end at the next ones.
	step := func(label string, n int) {
		acc := zeros(n)
		w2, scales2, count := GP64(), GP64(), GP64()
		if n > 2 {
			LEAQ(Mem{Base: w, Index: bytes, Scale: 2}, w2)
			LEAQ(Mem{Base: scales, Index: scaleBytes, Scale: 2}, scales2)
		}
		// of gives the place of row i's next block.
		of := func(first, third, stride reg.GPVirtual, i int) Mem {
			m := Mem{Base: []reg.GPVirtual{first, third}[i/2]}
			if i%2 == 1 {
				m.Index, m.Scale = stride, 1
			}
			return m
		}
		MOVQ(bytes, count)
		Label(label)
		x, a, s := YMM(), YMM(), YMM()
		VMOVDQU(Mem{Base: codes}, x)
		VMOVDQU(Mem{Base: magnitudes}, a)
		VBROADCASTSS(Mem{Base: left}, s)
		for i := range n {
			c, sum, both := YMM(), YMM(), YMM()
			VMOVDQU(of(w, w2, bytes, i), c)
			VPSIGNB(x, c, c)
			fours(a, c, sum)
			VCVTDQ2PS(sum, sum)
			VBROADCASTSS(of(scales, scales2, scaleBytes, i), both)
			VMULPS(s, both, both)
			VFMADD231PS(sum, both, acc[i])
		}
		for _, p := range []reg.GPVirtual{codes, magnitudes, w} {
			ADDQ(imm(32), p)
		}
		ADDQ(imm(4), left)
		ADDQ(imm(4), scales)
		if n > 2 {
			ADDQ(imm(32), w2)
			ADDQ(imm(4), scales2)
		}
		SUBQ(imm(32), count)
		JNZ(LabelRef(label))
		for i := range n {
			sum := horizontal(acc[i:i+1], addPS)
			VMOVSS(sum.AsX(), Mem{Base: out, Disp: 4 * i})
		}
		ADDQ(imm(4*n), out)
		SUBQ(bytes, codes)
		SUBQ(bytes, magnitudes)
		SUBQ(scaleBytes, left)
		if n > 2 {
			LEAQ(Mem{Base: w2, Index: bytes, Scale: 1}, w)
			LEAQ(Mem{Base: scales2, Index: scaleBytes, Scale: 1}, scales)
		}
	}
	SUBQ(imm(rowsAtOnce), rows)
	JLT(LabelRef("rest"))
	Label("groups")
	step("blocksOfGroup", rowsAtOnce)
	SUBQ(imm(rowsAtOnce), rows)
	JGE(LabelRef("groups"))
	Label("rest")
	ADDQ(imm(rowsAtOnce), rows)
	JZ(LabelRef("done"))
	Label("single")
	step("blocksOfSingle", 1)
	DECQ(rows)
	JNZ(LabelRef("single"))
	Label("done")
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
