package kernel

// withPairs adds the loops of AVX512_BF16 to the tile of AVX-512.
func (t *tile) withPairs() {
	t.paired, t.pairedHalf = wrap(pairsFull[:]), wrap(pairsHalf[:])
	t.roundPairs = func(dst, src []float32) {
		n := len(src) &^ 31
		if n > 0 {
			roundPairsBF16(&dst[0], &src[0], n/32)
		}
		pairsOf(dst[n/2:], src[n:])
	}
	t.packPairs = asmPackPairs
}

// asmPackPairs packs whole panels in assembly and their ragged edges in Go.
func asmPackPairs(dst []float32, w int, src []uint16, rs, cs, kc, nw int) {
	switch {
	case cs == 1 && nw == w && kc > 1:
		even := kc &^ 1
		if w == 16 {
			packRowsPairs_16(&dst[0], &src[0], rs, even/2)
		} else {
			packRowsPairs_32(&dst[0], &src[0], rs, even/2)
		}
		if even < kc {
			packPairs(dst[even/2*w:], w, src[even*rs:], rs, cs, 1, nw)
		}
	case rs == 1 && nw == w && kc >= 16:
		k16 := kc &^ 15
		for j := 0; j < nw; j += 8 {
			packColsPairs(&dst[j], w, &src[j*cs], cs, k16/16)
		}
		if k16 < kc {
			packPairs(dst[k16/2*w:], w, src[k16:], rs, cs, kc-k16, nw)
		}
	default:
		packPairs(dst, w, src, rs, cs, kc, nw)
	}
}

// The micro-kernels for pairs by number of rows, from one.
var (
	pairsFull = [12]asmMicro{
		microBF16_1x32, microBF16_2x32, microBF16_3x32, microBF16_4x32, microBF16_5x32, microBF16_6x32,
		microBF16_7x32, microBF16_8x32, microBF16_9x32, microBF16_10x32, microBF16_11x32, microBF16_12x32,
	}
	pairsHalf = [12]asmMicro{
		microBF16_1x16, microBF16_2x16, microBF16_3x16, microBF16_4x16, microBF16_5x16, microBF16_6x16,
		microBF16_7x16, microBF16_8x16, microBF16_9x16, microBF16_10x16, microBF16_11x16, microBF16_12x16,
	}
)
