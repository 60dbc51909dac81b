package kernel

import "math"

// packers copy a kc x nw block of B into panels of width w; src's rows
// (rowsXxx) or columns (colsXxx) are ld elements apart.
type packers struct {
	rowsF32, colsF32   func(dst []float32, w int, src []float32, ld, kc, nw int)
	rowsBF16, colsBF16 func(dst []float32, w int, src []uint16, ld, kc, nw int)
}

func pureTile() tile {
	const mr, nr = 4, 4
	t := tile{mr: mr, nr: nr, pack: purePackers()}
	for rows := range mr + 1 {
		t.full = append(t.full, func(c []float32, ldc int, a []float32, rs, cs int, b []float32, kc int, add bool) {
			pureMicro(rows, c, ldc, a, rs, cs, b, kc, add)
		})
	}
	return t
}

// pureMicro is the reference micro-kernel, four columns wide.
func pureMicro(rows int, c []float32, ldc int, a []float32, rs, cs int, b []float32, kc int, add bool) {
	for i := range rows {
		var s0, s1, s2, s3 float32
		ci := c[i*ldc : i*ldc+4]
		if add {
			s0, s1, s2, s3 = ci[0], ci[1], ci[2], ci[3]
		}
		ai := a[i*rs:]
		for k := range kc {
			x, bk := ai[k*cs], b[4*k:4*k+4]
			s0 += x * bk[0]
			s1 += x * bk[1]
			s2 += x * bk[2]
			s3 += x * bk[3]
		}
		ci[0], ci[1], ci[2], ci[3] = s0, s1, s2, s3
	}
}

func purePackers() packers {
	return packers{
		rowsF32: func(dst []float32, w int, src []float32, ld, kc, nw int) {
			for k := range kc {
				row := dst[k*w : (k+1)*w]
				clear(row[copy(row, src[k*ld:k*ld+nw]):])
			}
		},
		rowsBF16: func(dst []float32, w int, src []uint16, ld, kc, nw int) {
			for k := range kc {
				row := dst[k*w : (k+1)*w]
				for j, b := range src[k*ld : k*ld+nw] {
					row[j] = fromBF16(b)
				}
				clear(row[nw:])
			}
		},
		colsF32: func(dst []float32, w int, src []float32, ld, kc, nw int) {
			for j := range w {
				if j >= nw {
					for k := range kc {
						dst[k*w+j] = 0
					}
					continue
				}
				for k, v := range src[j*ld : j*ld+kc] {
					dst[k*w+j] = v
				}
			}
		},
		colsBF16: func(dst []float32, w int, src []uint16, ld, kc, nw int) {
			for j := range w {
				if j >= nw {
					for k := range kc {
						dst[k*w+j] = 0
					}
					continue
				}
				for k, v := range src[j*ld : j*ld+kc] {
					dst[k*w+j] = fromBF16(v)
				}
			}
		},
	}
}

func fromBF16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }
