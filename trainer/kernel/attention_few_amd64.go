package kernel

func asmDotStrided(out, x, w []float32, stride int) {
	if len(out) == 0 || len(x) == 0 || len(x)%32 != 0 {
		pureDotStrided(out, x, w, stride)
		return
	}
	w = w[:(len(out)-1)*stride+len(x)]
	dotStridedAVX2(&out[0], &x[0], &w[0], len(x), stride, len(out))
}

func asmSumStrided(y, a, w []float32, stride int) {
	if len(a) == 0 || len(y) == 0 || len(y)%32 != 0 {
		pureSumStrided(y, a, w, stride)
		return
	}
	w = w[:(len(a)-1)*stride+len(y)]
	sumStridedAVX2(&y[0], &a[0], &w[0], len(y), stride, len(a))
}
