package kernel

// asmPackers packs whole panels in assembly and their ragged edges in Go.
func asmPackers() packers {
	pure := purePackers()
	return packers{
		rowsF32: func(dst []float32, w int, src []float32, ld, kc, nw int) {
			if nw < w {
				pure.rowsF32(dst, w, src, ld, kc, nw)
				return
			}
			switch w {
			case 8:
				packRowsF32_8(&dst[0], &src[0], ld, kc)
			case 16:
				packRowsF32_16(&dst[0], &src[0], ld, kc)
			case 32:
				packRowsF32_32(&dst[0], &src[0], ld, kc)
			}
		},
		rowsBF16: func(dst []float32, w int, src []uint16, ld, kc, nw int) {
			if nw < w {
				pure.rowsBF16(dst, w, src, ld, kc, nw)
				return
			}
			switch w {
			case 8:
				packRowsBF16_8(&dst[0], &src[0], ld, kc)
			case 16:
				packRowsBF16_16(&dst[0], &src[0], ld, kc)
			case 32:
				packRowsBF16_32(&dst[0], &src[0], ld, kc)
			}
		},
		colsF32: func(dst []float32, w int, src []float32, ld, kc, nw int) {
			n8, k8 := nw&^7, kc&^7
			for j := 0; j < n8 && k8 > 0; j += 8 {
				packColsF32(&dst[j], w, &src[j*ld], ld, k8/8)
			}
			for j := range n8 {
				for k := k8; k < kc; k++ {
					dst[k*w+j] = src[j*ld+k]
				}
			}
			colsRest(dst, w, kc, n8, nw, func(j, k int) float32 { return src[j*ld+k] })
		},
		colsBF16: func(dst []float32, w int, src []uint16, ld, kc, nw int) {
			n8, k8 := nw&^7, kc&^7
			for j := 0; j < n8 && k8 > 0; j += 8 {
				packColsBF16(&dst[j], w, &src[j*ld], ld, k8/8)
			}
			for j := range n8 {
				for k := k8; k < kc; k++ {
					dst[k*w+j] = fromBF16(src[j*ld+k])
				}
			}
			colsRest(dst, w, kc, n8, nw, func(j, k int) float32 { return fromBF16(src[j*ld+k]) })
		},
	}
}

// colsRest fills columns [n8, w) of a panel: values up to nw, then zeros.
func colsRest(dst []float32, w, kc, n8, nw int, at func(j, k int) float32) {
	for j := n8; j < w; j++ {
		for k := range kc {
			v := float32(0)
			if j < nw {
				v = at(j, k)
			}
			dst[k*w+j] = v
		}
	}
}
