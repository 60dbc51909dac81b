package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// load8 loads eight values, widening bfloat16 bits to float32.
func load8(m Mem, bf16 bool) reg.VecVirtual {
	y := YMM()
	if bf16 {
		VPMOVZXWD(m, y)
		VPSLLD(Imm(16), y, y)
	} else {
		VMOVUPS(m, y)
	}
	return y
}

func typeName(bf16 bool) (name, elem string, size int) {
	if bf16 {
		return "BF16", "uint16", 2
	}
	return "F32", "float32", 4
}

// packRows emits the copy of kc rows of width values, ld apart, to contiguous
// rows.
func packRows(width int, bf16 bool) {
	name, elem, size := typeName(bf16)
	TEXT(fmt.Sprintf("packRows%s_%d", name, width), NOSPLIT, fmt.Sprintf("func(dst *float32, src *%s, ld int, kc int)", elem))
	Pragma("noescape")
	dst := Load(Param("dst"), GP64()).(reg.GPVirtual)
	src := Load(Param("src"), GP64()).(reg.GPVirtual)
	ld := Load(Param("ld"), GP64()).(reg.GPVirtual)
	kc := Load(Param("kc"), GP64()).(reg.GPVirtual)
	SHLQ(U8(size/2), ld)
	// Rows lie too far apart for the processor to see which come next: ask for the
	// sixteenth from here. Asking beyond the end of the memory does nothing.
	ahead := GP64()
	MOVQ(ld, ahead)
	SHLQ(U8(4), ahead)
	ADDQ(src, ahead)
	Label("loop")
	for at := 0; at < width*size; at += 64 {
		PREFETCHT0(Mem{Base: ahead, Disp: at})
	}
	ADDQ(ld, ahead)
	for j := 0; j < width; j += 8 {
		y := load8(Mem{Base: src, Disp: j * size}, bf16)
		VMOVUPS(y, Mem{Base: dst, Disp: 4 * j})
	}
	ADDQ(ld, src)
	ADDQ(imm(4*width), dst)
	DECQ(kc)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// packCols emits the transposition of eight source rows, ld apart, of 8·blocks
// values each, into rows of dst that are w apart.
func packCols(bf16 bool) {
	name, elem, size := typeName(bf16)
	transpose("packCols"+name, elem, size, 8*size, func(m Mem) reg.VecVirtual { return load8(m, bf16) })
}

// transpose emits a function that turns eight rows of src, whose elements have
// size bytes and whose blocks of eight loaded values have step bytes.
func transpose(name, elem string, size, step int, load func(Mem) reg.VecVirtual) {
	TEXT(name, NOSPLIT, fmt.Sprintf("func(dst *float32, w int, src *%s, ld int, blocks int)", elem))
	Pragma("noescape")
	dst := Load(Param("dst"), GP64()).(reg.GPVirtual)
	w := Load(Param("w"), GP64()).(reg.GPVirtual)
	src := Load(Param("src"), GP64()).(reg.GPVirtual)
	ld := Load(Param("ld"), GP64()).(reg.GPVirtual)
	blocks := Load(Param("blocks"), GP64()).(reg.GPVirtual)
	SHLQ(U8(2), w)
	SHLQ(U8(size/2), ld)
	in, out := newRowAddr(src, ld, 8), newRowAddr(dst, w, 8)
	// As above: the eight rows that are turned after these.
	ahead := GP64()
	LEAQ(Mem{Base: src, Index: ld, Scale: 8}, ahead)
	next := rowAddr{ahead, ld, in.odd}
	Label("loop")
	for i := range 8 {
		PREFETCHT0(next.at(i))
	}
	ADDQ(imm(step), ahead)
	var r, s [8]reg.VecVirtual
	for i := range r {
		r[i] = load(in.at(i))
	}
	for i := range s {
		s[i] = YMM()
		if i%2 == 0 {
			VUNPCKLPS(r[i+1], r[i], s[i])
		} else {
			VUNPCKHPS(r[i], r[i-1], s[i])
		}
	}
	// s holds pairs of rows; q pairs of pairs, within 128-bit lanes.
	var q [8]reg.VecVirtual
	for i := 0; i < 8; i += 4 {
		for j, sel := range []uint8{0x44, 0xee, 0x44, 0xee} {
			q[i+j] = YMM()
			VSHUFPS(U8(sel), s[i+2+j/2], s[i+j/2], q[i+j])
		}
	}
	for i := range 4 {
		lo, hi := YMM(), YMM()
		VPERM2F128(U8(0x20), q[i+4], q[i], lo)
		VPERM2F128(U8(0x31), q[i+4], q[i], hi)
		VMOVUPS(lo, out.at(i))
		VMOVUPS(hi, out.at(i+4))
	}
	ADDQ(imm(step), src)
	LEAQ(Mem{Base: dst, Index: w, Scale: 8}, dst)
	DECQ(blocks)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// imm is an immediate operand of an addition: eight bits are sign-extended, so
// they serve below 128 only.
func imm(n int) Constant {
	if n < 128 {
		return U8(n)
	}
	return U32(n)
}
