package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vecOps hides the difference between ymm and zmm registers, and between values
// and pairs of bfloat16.
type vecOps struct {
	bytes int
	// Registers: the n-th sum, the j-th vector of B, row i's broadcast value of A.
	acc, b, x func(n int) reg.Register
	zero      func(r reg.Register)
	fma       func(b, a, acc reg.Register)
}

func anyZMM(int) reg.Register { return ZMM() }
func anyYMM(int) reg.Register { return YMM() }

var zmm = vecOps{
	bytes: 64,
	acc:   anyZMM, b: anyZMM, x: anyZMM,
	zero: func(r reg.Register) { VPXORD(r, r, r) },
	fma:  func(b, a, acc reg.Register) { VFMADD231PS(b, a, acc) },
}

var ymm = vecOps{
	bytes: 32,
	acc:   anyYMM, b: anyYMM, x: anyYMM,
	zero: func(r reg.Register) { VXORPS(r, r, r) },
	fma:  func(b, a, acc reg.Register) { VFMADD231PS(b, a, acc) },
}

// rowAddr gives the address of A's row i without a pointer per row: multiples of
// the row stride that the addressing mode cannot scale are kept in registers.
type rowAddr struct {
	base, rs reg.GPVirtual
	odd      map[int]reg.GPVirtual // 3, 5, 7, 9, 11 times the stride
}

func newRowAddr(base, rs reg.GPVirtual, rows int) rowAddr {
	r := rowAddr{base, rs, map[int]reg.GPVirtual{1: rs}}
	for i := 3; i < rows; i += 2 {
		m := GP64()
		LEAQ(Mem{Base: r.odd[i-2], Index: rs, Scale: 2}, m)
		r.odd[i] = m
	}
	return r
}

func (r rowAddr) at(i int) Mem {
	if i == 0 {
		return Mem{Base: r.base}
	}
	scale := 1
	for i%2 == 0 {
		i, scale = i/2, scale*2
	}
	return Mem{Base: r.base, Index: r.odd[i], Scale: uint8(scale)}
}

// micro emits one micro-kernel: rows x (vecs vectors) of C stay in registers
// while k runs; each step loads vecs vectors of B and broadcasts rows values of
// A. It goes through panels of B for each of tiles blocks of rows, so that one
// call does the whole of what a task has: products of a short k, as an adapter's
// rank is, would else spend as long between calls as in them.
func micro(isa string, rows, vecs int, v vecOps) {
	TEXT(fmt.Sprintf("micro%s_%dx%d", isa, rows, vecs*v.bytes/4), NOSPLIT,
		"func(c *float32, ldc int, a *float32, rs int, cs int, b *float32, kc int, add bool, panels int, tiles int)")
	Pragma("noescape")
	// What the loop over k does not need lives on the stack.
	left, firstA, firstC := AllocLocal(8), AllocLocal(8), AllocLocal(8)
	tiles := resolve("tiles")

	ldc := Load(Param("ldc"), GP64()).(reg.GPVirtual)
	rs := Load(Param("rs"), GP64()).(reg.GPVirtual)
	cs := Load(Param("cs"), GP64()).(reg.GPVirtual)
	for _, r := range []reg.GPVirtual{ldc, rs, cs} {
		SHLQ(U8(2), r)
	}
	a, c := GP64(), Load(Param("c"), GP64()).(reg.GPVirtual)
	Load(Param("a"), a)
	MOVQ(a, firstA)
	addr := newRowAddr(a, rs, rows)

	Label("tile")
	MOVQ(c, firstC)
	b, kc := GP64(), GP64()
	Load(Param("b"), b)
	Load(Param("panels"), kc)
	MOVQ(kc, left)
	Label("panel")
	MOVQ(firstA, a)
	Load(Param("kc"), kc)

	acc := make([][]reg.Register, rows)
	for i := range acc {
		for j := range vecs {
			acc[i] = append(acc[i], v.acc(i*vecs+j))
		}
	}
	CMPB(resolve("add"), Imm(0))
	JEQ(LabelRef("zero"))
	p := GP64()
	MOVQ(c, p)
	for i := range acc {
		for j, r := range acc[i] {
			VMOVUPS(Mem{Base: p, Disp: j * v.bytes}, r)
		}
		if i+1 < rows {
			ADDQ(ldc, p)
		}
	}
	JMP(LabelRef("begin"))
	Label("zero")
	for i := range acc {
		for _, r := range acc[i] {
			v.zero(r)
		}
	}
	Label("begin")

	step := func(disp int) {
		bv := make([]reg.Register, vecs)
		for j := range bv {
			bv[j] = v.b(j)
			VMOVUPS(Mem{Base: b, Disp: disp + j*v.bytes}, bv[j])
		}
		for i := range acc {
			x := v.x(i)
			VBROADCASTSS(addr.at(i), x)
			for j := range bv {
				v.fma(bv[j], x, acc[i][j])
			}
		}
		ADDQ(cs, a)
	}
	SUBQ(Imm(2), kc)
	JLT(LabelRef("last"))
	Label("loop")
	step(0)
	step(vecs * v.bytes)
	ADDQ(imm(2*vecs*v.bytes), b)
	SUBQ(Imm(2), kc)
	JGE(LabelRef("loop"))
	Label("last")
	ADDQ(Imm(2), kc)
	JZ(LabelRef("store"))
	step(0)
	ADDQ(imm(vecs*v.bytes), b) // where the next panel begins
	Label("store")
	MOVQ(c, p)
	for i := range acc {
		for j, r := range acc[i] {
			VMOVUPS(r, Mem{Base: p, Disp: j * v.bytes})
		}
		if i+1 < rows {
			ADDQ(ldc, p)
		}
	}
	ADDQ(imm(vecs*v.bytes), c)
	DECQ(left)
	JNZ(LabelRef("panel"))

	// The next rows of A and C.
	MOVQ(firstA, a)
	MOVQ(firstC, c)
	for range rows {
		ADDQ(rs, a)
		ADDQ(ldc, c)
	}
	MOVQ(a, firstA)
	DECQ(tiles)
	JNZ(LabelRef("tile"))
	VZEROUPPER()
	RET()
}

// resolve is where a parameter lies on the stack.
func resolve(name string) Mem {
	basic, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return basic.Addr
}
