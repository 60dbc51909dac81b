package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// attention emits the two products of one query with many keys and values: rows of w,
// n values (whole blocks of 32) that begin stride values apart.
func attention() {
	load := func(names ...string) []reg.GPVirtual {
		var list []reg.GPVirtual
		for _, n := range names {
			list = append(list, Load(Param(n), GP64()).(reg.GPVirtual))
		}
		return list
	}
	// out[r] = x·w[r]
	begin("dotStridedAVX2", "func(out *float32, x *float32, w *float32, n int, stride int, rows int)")
	p := load("out", "x", "w", "n", "stride", "rows")
	out, x, w, n, stride, rows := p[0], p[1], p[2], p[3], p[4], p[5]
	SHLQ(U8(2), stride)
	Label("row")
	acc, at := zeros(4), GP64()
	XORQ(at, at)
	Label("loop")
	for i := range acc {
		v := YMM()
		VMOVUPS(Mem{Base: x, Index: at, Scale: 4, Disp: 32 * i}, v)
		VFMADD231PS(Mem{Base: w, Index: at, Scale: 4, Disp: 32 * i}, v, acc[i])
	}
	ADDQ(imm(32), at)
	CMPQ(at, n)
	JNE(LabelRef("loop"))
	sum := horizontal(acc, addPS)
	VMOVSS(sum.AsX(), Mem{Base: out})
	ADDQ(imm(4), out)
	ADDQ(stride, w)
	DECQ(rows)
	JNZ(LabelRef("row"))
	end()

	// y = Σ a[r]·w[r]
	begin("sumStridedAVX2", "func(y *float32, a *float32, w *float32, n int, stride int, rows int)")
	p = load("y", "a", "w", "n", "stride", "rows")
	y, a := p[0], p[1]
	w, n, stride, rows = p[2], p[3], p[4], p[5]
	SHLQ(U8(2), stride)
	Label("block")
	row, k := GP64(), GP64()
	acc = zeros(4)
	MOVQ(w, row)
	XORQ(k, k)
	Label("rows")
	factor := YMM()
	VBROADCASTSS(Mem{Base: a, Index: k, Scale: 4}, factor)
	for i := range acc {
		VFMADD231PS(Mem{Base: row, Disp: 32 * i}, factor, acc[i])
	}
	ADDQ(stride, row)
	INCQ(k)
	CMPQ(k, rows)
	JNE(LabelRef("rows"))
	for i, v := range acc {
		VMOVUPS(v, Mem{Base: y, Disp: 32 * i})
	}
	ADDQ(imm(128), y)
	ADDQ(imm(128), w)
	SUBQ(imm(32), n)
	JNZ(LabelRef("block"))
	end()
}
