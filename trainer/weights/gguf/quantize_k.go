package gguf

import (
	"encoding/binary"
	"math"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// nearest rounds to the nearest integer, ties to even, by the trick that ggml uses
// (nearest_int): adding 1.5*2^23 leaves the integer in the mantissa. |v| must be
// below 2^22.
func nearest(v float32) int32 {
	bits := int32(math.Float32bits(v + 12582912))
	return bits&0x007fffff - 0x00400000
}

func clamp(v, low, high int32) int32 { return min(max(v, low), high) }

// encodeQ4_K searches a scale and a minimum for each 32 values, then expresses these
// in 6 bits each by the largest of all eight (layout: decodeQ4_K).
func encodeQ4_K(dst []byte, x []float32) {
	var scales, mins [8]float32
	var q [256]byte
	topScale, topMin := float32(0), float32(0)
	for j := range 8 {
		part := x[32*j:][:32]
		sum := float32(0)
		for _, v := range part {
			sum += float32(v * v)
		}
		mean := float32(math.Sqrt(float64(sum / 32)))
		var w [32]float32
		for i, v := range part {
			w[i] = mean + abs(v)
		}
		scales[j], mins[j] = searchScaleMin((*[32]float32)(part), &w)
		topScale, topMin = max(topScale, scales[j]), max(topMin, mins[j])
	}
	perScale, perMin := float32(0), float32(0)
	if topScale > 0 {
		perScale = 63 / topScale
	}
	if topMin > 0 {
		perMin = 63 / topMin
	}
	packed := dst[4:16]
	clear(packed)
	for j := range 8 {
		s, m := byte(min(63, nearest(perScale*scales[j]))), byte(min(63, nearest(perMin*mins[j])))
		if j < 4 {
			packed[j], packed[j+4] = s, m
		} else {
			packed[j+4] = s&15 | m&15<<4
			packed[j-4] |= s >> 4 << 6
			packed[j] |= m >> 4 << 6
		}
	}
	binary.LittleEndian.PutUint16(dst, weights.F32ToF16(topScale/63))
	binary.LittleEndian.PutUint16(dst[2:], weights.F32ToF16(topMin/63))
	d, dmin := half(dst), half(dst[2:])
	scale, minimum := scalesK(packed)
	for j := range 8 {
		s := d * float32(scale[j])
		if s == 0 {
			continue // all zero, as q is
		}
		m := dmin * float32(minimum[j])
		for i, v := range x[32*j:][:32] {
			q[32*j+i] = byte(clamp(nearest((v+m)/s), 0, 15))
		}
	}
	for j := range 4 {
		for i := range 32 {
			dst[16+32*j+i] = q[64*j+i] | q[64*j+32+i]<<4
		}
	}
}

// searchScaleMin finds scale and minimum (returned with its sign turned) of 15 steps
// such that the weighted squares of the errors are small: 21 step sizes around the
// span's fifteenth, for each the best line through the rounded values
// (make_qkx2_quants with rmin -1, rdelta 0.1, nstep 20).
func searchScaleMin(x, w *[32]float32) (scale, minimum float32) {
	low, high := x[0], x[0]
	sumW := w[0]
	sumX := float32(sumW * x[0])
	for i := 1; i < 32; i++ {
		low, high = min(low, x[i]), max(high, x[i])
		sumW += w[i]
		sumX += float32(w[i] * x[i])
	}
	low = min(low, 0)
	if high == low {
		return 0, -low
	}
	per := 15 / (high - low)
	scale = 1 / per
	best := float32(0)
	for i, v := range x {
		l := clamp(nearest(per*(v-low)), 0, 15)
		diff := float32(float32(scale*float32(l))+low) - v
		best += float32(w[i] * float32(diff*diff))
	}
	var lf [32]float32 // the rounded values, as they are tried
	for step := range 21 {
		per = float32(float32(float32(0.1)*float32(step))+-1+15) / (high - low)
		var sumL, sumL2, sumXL float32
		for i, v := range x {
			l := float32(clamp(nearest(per*(v-low)), 0, 15))
			lf[i] = l
			wl := float32(w[i] * l)
			sumL += wl
			sumL2 += float32(wl * l)
			sumXL += float32(wl * v)
		}
		det := float32(sumW*sumL2) - float32(sumL*sumL)
		if det <= 0 {
			continue
		}
		s := (float32(sumW*sumXL) - float32(sumX*sumL)) / det
		m := (float32(sumL2*sumX) - float32(sumL*sumXL)) / det
		if m > 0 {
			m, s = 0, sumXL/sumL2
		}
		err := float32(0)
		for i, v := range x {
			diff := float32(float32(s*lf[i])+m) - v
			err += float32(w[i] * float32(diff*diff))
		}
		if err < best {
			best, scale, low = err, s, m // later steps start from this minimum
		}
	}
	return scale, -low
}

// tiny is below what a scale can be made for (GROUP_MAX_EPS).
const tiny = 1e-15

// encodeQ6_K searches a scale for each 16 values, then expresses these in signed
// bytes by the largest (layout: decodeQ6_K).
func encodeQ6_K(dst []byte, x []float32) {
	var scales [16]float32
	top, topAbs := float32(0), float32(0)
	for j := range 16 {
		s := searchScale((*[16]float32)(x[16*j:]))
		scales[j] = s
		if a := abs(s); a > topAbs {
			top, topAbs = s, a
		}
	}
	clear(dst)
	if topAbs < tiny {
		return
	}
	per := -128 / top
	binary.LittleEndian.PutUint16(dst[208:], weights.F32ToF16(1/per))
	d := half(dst[208:])
	var q [256]byte
	for j := range 16 {
		s := min(127, nearest(per*scales[j]))
		dst[192+j] = byte(int8(s))
		step := d * float32(s)
		for i, v := range x[16*j:][:16] {
			if q[16*j+i] = 32; step != 0 {
				q[16*j+i] = byte(clamp(nearest(v/step), -32, 31) + 32)
			}
		}
	}
	for n := range 2 {
		low, high, q := dst[64*n:][:64], dst[128+32*n:][:32], q[128*n:][:128]
		for i := range 32 {
			low[i] = q[i]&15 | q[i+64]&15<<4
			low[i+32] = q[i+32]&15 | q[i+96]&15<<4
			high[i] = q[i]>>4 | q[i+32]>>4<<2 | q[i+64]>>4<<4 | q[i+96]>>4<<6
		}
	}
}

// searchScale finds the scale of 64 steps such that the squares of the errors,
// weighted by the squares of the values, are small: the value farthest from 0 becomes
// -32, or up to 0.9 beside that (make_qx_quants with rmse_type 1).
func searchScale(x *[16]float32) float32 {
	top, topAbs := largest(x[:])
	if topAbs < tiny {
		return 0
	}
	try := func(per float32) (sumXL, sumL2 float32) {
		for _, v := range x {
			l := float32(clamp(nearest(per*v), -32, 31))
			w := float32(v * v)
			sumXL += float32(float32(w*v) * l)
			sumL2 += float32(float32(w*l) * l)
		}
		return sumXL, sumL2
	}
	scale := float32(0)
	sumXL, sumL2 := try(-32 / top)
	if sumL2 != 0 {
		scale = sumXL / sumL2
	}
	best := float32(scale * sumXL)
	for step := -9; step <= 9; step++ {
		if step == 0 {
			continue
		}
		sumXL, sumL2 := try(-(32 + float32(float32(0.1)*float32(step))) / top)
		if sumL2 > 0 && float32(sumXL*sumXL) > float32(best*sumL2) {
			scale = sumXL / sumL2
			best = float32(scale * sumXL)
		}
	}
	return scale
}
