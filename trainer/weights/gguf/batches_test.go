package gguf_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// A tensor too large for one batch is written in several, each while the next is
// converted: every row arrives, in its place.
func TestLargeTensorsKeepTheirRowsInOrder(t *testing.T) {
	const wide = 300_001 // 2.4 million values in rows of 8, and in 8 rows
	c, s := small(), shapes()
	c["intermediate_size"] = wide
	for name, shape := range s {
		for i, n := range shape {
			if n == 16 {
				s[name][i] = wide
			}
		}
	}
	value := func(i int) float32 { return float32(i % 65521) }
	f := export(t, folder(t, c, s, value), gguf.Options{Type: "F32"})
	for _, name := range []string{"blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight"} {
		raw := data(t, f, name)
		if len(raw) != 4*8*wide {
			t.Fatalf("%s has %d bytes", name, len(raw))
		}
		for i := range len(raw) / 4 {
			if got := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])); got != value(i) {
				t.Fatalf("%s: value %d is %g, not %g", name, i, got, value(i))
			}
		}
	}
}
