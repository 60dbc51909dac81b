package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// peak emits a loop of independent fused multiply-adds and nothing else: the
// most that the processor can do, as the measure for the products.
func peak(name string, v vecOps) {
	TEXT(name, NOSPLIT, "func(n int)")
	n := Load(Param("n"), GP64()).(reg.GPVirtual)
	acc := make([]reg.Register, 12)
	x := v.x(0)
	v.zero(x)
	for i := range acc {
		acc[i] = v.acc(i)
		v.zero(acc[i])
	}
	Label("loop")
	for _, a := range acc {
		v.fma(x, x, a)
	}
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// pause emits a wait of about a tenth of a microsecond that leaves the core's
// other thread its resources.
func pause() {
	TEXT("pause", NOSPLIT, "func()")
	for range 4 {
		PAUSE()
	}
	RET()
}
