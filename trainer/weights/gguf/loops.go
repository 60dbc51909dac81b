package gguf

// loops are the inner loops of the encoders. Each set gives the same bits: a search
// sums up a group of values in their order and never fuses a product with a sum, and
// the sets in assembly search many groups side by side.
type loops struct {
	// scaleMin is searchScaleMin for each 32 values; len(scales) is a multiple of 8.
	scaleMin func(x, scales, mins []float32)
	// scale is searchScale for each 16 values; len(scales) is a multiple of 16.
	scale func(x, scales []float32)
	// levels is levelsOf.
	levels func(q []byte, x, steps, offsets []float32, low, high, lift int32)
	// q8 is encodeQ8_0.
	q8 func(dst []byte, x []float32)
	// within says whether no value is farther from 0 than limit, nor NaN.
	within func(x []float32, limit float32) bool
}

// pureLoops are those in Go, for every processor.
func pureLoops() loops {
	return loops{searchScalesMins, searchScales, levelsOf, encodeQ8_0, within}
}

func within(x []float32, limit float32) bool {
	for _, v := range x {
		if !(abs(v) <= limit) {
			return false
		}
	}
	return true
}
