package view

import "strings"

var sparks = []rune("▁▂▃▄▅▆▇█")

// Sparkline draws values as a curve of at most width cells; more values than
// cells are averaged, so that the whole curve is always there.
func Sparkline(values []float64, width int) string {
	if len(values) == 0 || width < 1 {
		return ""
	}
	values = resample(values, width)
	low, high := values[0], values[0]
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	var b strings.Builder
	for _, v := range values {
		level := 0
		if high > low {
			level = int((v - low) / (high - low) * float64(len(sparks)-1) * 1.0001)
		}
		b.WriteRune(sparks[min(max(level, 0), len(sparks)-1)])
	}
	return b.String()
}

// resample averages values into n buckets if there are more than n.
func resample(values []float64, n int) []float64 {
	if len(values) <= n {
		return values
	}
	out := make([]float64, n)
	for i := range out {
		from, to := i*len(values)/n, (i+1)*len(values)/n
		for _, v := range values[from:to] {
			out[i] += v / float64(to-from)
		}
	}
	return out
}

// bar draws how much is done in width cells, in steps of an eighth of a cell.
func bar(done, total int64, width int) string {
	if width < 1 {
		return ""
	}
	eighths := 0
	if total > 0 {
		share := min(max(float64(done)/float64(total), 0), 1)
		eighths = int(share * float64(width) * 8)
	}
	const partial = " ▏▎▍▌▋▊▉"
	out := []rune(strings.Repeat("█", eighths/8))
	if rest := eighths % 8; rest > 0 {
		out = append(out, []rune(partial)[rest])
	}
	return string(out) + strings.Repeat("░", width-len(out))
}
