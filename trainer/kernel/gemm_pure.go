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
	t := tile{mr: mr, nr: nr, pack: purePackers(), decode: pureDequantize}
	for rows := range mr + 1 {
		t.full = append(t.full, func(c []float32, ldc int, a []float32, rs, cs int, b []float32, kc int, add bool, panels, tiles int) {
			for tile := range tiles {
				for panel := range panels {
					pureMicro(rows, c[tile*rows*ldc+panel*nr:], ldc, a[tile*rows*rs:], rs, cs, b[panel*nr*kc:], kc, add)
				}
			}
		})
	}
	return t
}

// pureMicro is the micro-kernel in Go, four columns wide. It takes two rows at a
// time: eight sums, four values of B and two of A are what the registers of a
// processor without wide vectors hold.
func pureMicro(rows int, c []float32, ldc int, a []float32, rs, cs int, b []float32, kc int, add bool) {
	for ; rows > 0; rows -= 2 {
		pureRows(min(2, rows), c, ldc, a, rs, cs, b, kc, add)
		if rows > 2 {
			c, a = c[2*ldc:], a[2*rs:]
		}
	}
}

func pureRows(rows int, c []float32, ldc int, a []float32, rs, cs int, b []float32, kc int, add bool) {
	var s, t [4]float32
	second := (rows - 1) * rs // a single row is computed twice
	if add {
		s = [4]float32(c)
		t = [4]float32(c[(rows-1)*ldc:])
	}
	s0, s1, s2, s3 := s[0], s[1], s[2], s[3]
	t0, t1, t2, t3 := t[0], t[1], t[2], t[3]
	b = b[:4*kc]
	for at := 0; len(b) >= 4; at += cs {
		x, y := a[at], a[at+second]
		b0, b1, b2, b3 := b[0], b[1], b[2], b[3]
		s0 += x * b0
		s1 += x * b1
		s2 += x * b2
		s3 += x * b3
		t0 += y * b0
		t1 += y * b1
		t2 += y * b2
		t3 += y * b3
		b = b[4:]
	}
	copy(c, []float32{s0, s1, s2, s3})
	copy(c[(rows-1)*ldc:], []float32{t0, t1, t2, t3})
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
