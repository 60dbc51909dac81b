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
func (l loops) encodeQ4_K(dst []byte, x []float32) {
	var w work
	for len(x) > 0 {
		n := min(512, len(x)) // so that sixteen groups are searched side by side
		l.scaleMin(x[:n], w.scales[:n/32], w.mins[:n/32])
		for at := 0; at < n; at += 256 {
			l.encodeBlockQ4_K(dst[:144], x[at:at+256], (*[8]float32)(w.scales[at/32:]), (*[8]float32)(w.mins[at/32:]), &w)
			dst = dst[144:]
		}
		x = x[n:]
	}
}

// work is what the encoding of a row's blocks needs, made once for all of them.
type work struct {
	scales, mins   [16]float32 // of groups
	steps, offsets [16]float32 // of 16 values each
	q              [256]byte
}

func (l loops) encodeBlockQ4_K(dst []byte, x []float32, scales, mins *[8]float32, w *work) {
	topScale, topMin := float32(0), float32(0)
	for j := range 8 {
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
	for j := range 16 {
		w.steps[j], w.offsets[j] = d*float32(scale[j/2]), dmin*float32(minimum[j/2])
	}
	l.levels(w.q[:], x, w.steps[:], w.offsets[:], 0, 15, 0)
	for j := range 4 {
		low, high, out := w.q[64*j:][:32], w.q[64*j+32:][:32], dst[16+32*j:][:32]
		for i := 0; i < 32; i += 8 { // no level has more than four bits: none reaches into its neighbour
			binary.LittleEndian.PutUint64(out[i:], binary.LittleEndian.Uint64(low[i:])|binary.LittleEndian.Uint64(high[i:])<<4)
		}
	}
}

// searchScalesMins is searchScaleMin for each 32 values of x, weighted by their
// distance from 0 and its root mean square.
func searchScalesMins(x, scales, mins []float32) {
	for j := range scales {
		part := (*[32]float32)(x[32*j:])
		sum := float32(0)
		for _, v := range part {
			sum += float32(v * v)
		}
		mean := float32(math.Sqrt(float64(sum / 32)))
		var w [32]float32
		for i, v := range part {
			w[i] = mean + abs(v)
		}
		scales[j], mins[j] = searchScaleMin(part, &w)
	}
}

// levelsOf turns each 16 values to the nearest multiples of a step, above an offset,
// from low to high, and adds lift. Where the step is 0 so are the levels.
func levelsOf(q []byte, x, steps, offsets []float32, low, high, lift int32) {
	for j, step := range steps {
		for i, v := range x[16*j:][:16] {
			level := int32(0)
			if step != 0 {
				level = clamp(nearest((v+offsets[j])/step), low, high)
			}
			q[16*j+i] = byte(level + lift)
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
func (l loops) encodeQ6_K(dst []byte, x []float32) {
	var w work // its offsets stay 0
	for ; len(x) > 0; x, dst = x[256:], dst[210:] {
		l.encodeBlockQ6_K(dst[:210], x[:256], &w)
	}
}

func (l loops) encodeBlockQ6_K(dst []byte, x []float32, w *work) {
	l.scale(x, w.scales[:])
	top, topAbs := largest(w.scales[:])
	clear(dst)
	if topAbs < tiny {
		return
	}
	per := -128 / top
	binary.LittleEndian.PutUint16(dst[208:], weights.F32ToF16(1/per))
	d := half(dst[208:])
	for j := range 16 {
		s := min(127, nearest(per*w.scales[j]))
		dst[192+j] = byte(int8(s))
		w.steps[j] = d * float32(s)
	}
	l.levels(w.q[:], x, w.steps[:], w.offsets[:], -32, 31, 32)
	for n := range 2 {
		low, high, q := dst[64*n:][:64], dst[128+32*n:][:32], w.q[128*n:][:128]
		const four, two = 0x0f0f0f0f0f0f0f0f, 0x0303030303030303
		for i := 0; i < 32; i += 8 { // eight at a time, as bytes of an integer
			word := func(at int) uint64 { return binary.LittleEndian.Uint64(q[at+i:]) }
			a, b, c, e := word(0), word(32), word(64), word(96)
			binary.LittleEndian.PutUint64(low[i:], a&four|c&four<<4)
			binary.LittleEndian.PutUint64(low[i+32:], b&four|e&four<<4)
			binary.LittleEndian.PutUint64(high[i:], a>>4&two|b>>4&two<<2|c>>4&two<<4|e>>4&two<<6)
		}
	}
}

// searchScales is searchScale for each 16 values of x.
func searchScales(x, scales []float32) {
	for j := range scales {
		scales[j] = searchScale((*[16]float32)(x[16*j:]))
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
