package kernel

func asmDequantize(bits int, dst []float32, codes []byte, scales []float32) {
	n := len(scales)
	if n == 0 {
		return
	}
	dst, codes = dst[:n*QuantBlock], codes[:n*QuantBlock*bits/8]
	if bits == 8 {
		dequantizeQ8AVX2(&dst[0], &codes[0], &scales[0], n)
		return
	}
	dequantizeQ4AVX2(&dst[0], &codes[0], &scales[0], n)
}

func asmDotCodes(bits int, x []float32, codes []byte, scales []float32) float32 {
	n := len(scales)
	if n == 0 {
		return 0
	}
	x, codes = x[:n*QuantBlock], codes[:n*QuantBlock*bits/8]
	if bits == 8 {
		return dotQ8AVX2(&x[0], &codes[0], &scales[0], n)
	}
	return dotQ4AVX2(&x[0], &codes[0], &scales[0], n)
}
