package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Pairs: 32 bits that hold two neighbours along k as bfloat16, the first in the
// upper half. VDPBF16PS adds the product of the upper halves, then that of the
// lower ones, rounding to nearest after each: so an element's sum is one chain in
// the order of k, as everywhere.

// z are the registers by number: neither avo nor Go's assembler knows the
// instructions of AVX512_BF16, whose bytes name registers.
var z = [32]reg.Register{
	reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
	reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23, reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
}

func number(r reg.Register) int {
	for i := range z {
		if z[i] == r {
			return i
		}
	}
	panic("not a register of 512 bits by number")
}

var pairs = vecOps{
	bytes: 64,
	acc:   func(n int) reg.Register { return z[n] },
	b:     func(j int) reg.Register { return z[24+j] },
	x:     func(i int) reg.Register { return z[26+i%6] },
	zero:  zmm.zero,
	fma:   func(b, a, acc reg.Register) { evex(f3, 0x52, number(b), number(a), number(acc)) }, // VDPBF16PS
}

// The mandatory prefixes, as EVEX encodes them.
const (
	f3 = 2
	f2 = 3
)

// evex emits an instruction of the map 0F38 with W0 and three registers of 512
// bits (Intel SDM, volume 2, 2.7.1), operands in Go's order.
func evex(prefix, opcode, rm, v, r int) {
	not := func(n, bit int) int { return ^(n >> bit) & 1 }
	p0 := not(r, 3)<<7 | not(rm, 4)<<6 | not(rm, 3)<<5 | not(r, 4)<<4 | 2
	p1 := (^v&15)<<3 | 4 | prefix
	p2 := 2<<5 | not(v, 4)<<3
	modrm := 3<<6 | r&7<<3 | rm&7
	Comment(fmt.Sprintf("EVEX.512 0F38.W0 %02X /r: Z%d, Z%d, Z%d", opcode, rm, v, r))
	Instruction(&ir.Instruction{Opcode: "LONG", Operands: []Op{U32(uint32(0x62 | p0<<8 | p1<<16 | p2<<24))}})
	Instruction(&ir.Instruction{Opcode: "WORD", Operands: []Op{U16(uint16(opcode | modrm<<8))}})
}

// packRowsPairs emits the pairing of 2·pairs rows of width bfloat16, ld apart:
// values that stand below each other become a pair.
func packRowsPairs(width int) {
	TEXT(fmt.Sprintf("packRowsPairs_%d", width), NOSPLIT, "func(dst *float32, src *uint16, ld int, pairs int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64()).(reg.GPVirtual)
	src := Load(Param("src"), GP64()).(reg.GPVirtual)
	ld := Load(Param("ld"), GP64()).(reg.GPVirtual)
	n := Load(Param("pairs"), GP64()).(reg.GPVirtual)
	SHLQ(U8(1), ld)
	Label("loop")
	for j := 0; j < width; j += 16 {
		first, second := ZMM(), ZMM()
		VPMOVZXWD(Mem{Base: src, Disp: 2 * j}, first)
		VPMOVZXWD(Mem{Base: src, Index: ld, Scale: 1, Disp: 2 * j}, second)
		VPSLLD(U8(16), first, first)
		VPORD(second, first, first)
		VMOVDQU32(first, Mem{Base: dst, Disp: 4 * j})
	}
	LEAQ(Mem{Base: src, Index: ld, Scale: 2}, src)
	ADDQ(imm(4*width), dst)
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// packColsPairs emits packCols for source rows of 16·blocks bfloat16, taken as
// pairs.
func packColsPairs() {
	transpose("packColsPairs", "uint16", 2, 32, func(m Mem) reg.VecVirtual {
		y := YMM()
		VPRORD(U8(16), m, y)
		return y
	})
}

// roundPairs emits the rounding of 32·blocks values to nearest, ties to even, in
// pairs. Denormal values become zero.
func roundPairs() {
	TEXT("roundPairsBF16", NOSPLIT, "func(dst *float32, src *float32, blocks int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64()).(reg.GPVirtual)
	src := Load(Param("src"), GP64()).(reg.GPVirtual)
	n := Load(Param("blocks"), GP64()).(reg.GPVirtual)
	Label("loop")
	VMOVUPS(Mem{Base: src}, reg.Z0)
	VMOVUPS(Mem{Base: src, Disp: 64}, reg.Z1)
	evex(f2, 0x72, 0, 1, 2) // VCVTNE2PS2BF16
	VPRORD(U8(16), reg.Z2, reg.Z2)
	VMOVDQU32(reg.Z2, Mem{Base: dst})
	ADDQ(imm(128), src)
	ADDQ(imm(64), dst)
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
