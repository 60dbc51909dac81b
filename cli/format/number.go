package format

import (
	"math"
	"strconv"
	"strings"
)

// Bytes writes a size in decimal units with at most three digits: 912 B,
// 4.2 MB, 120 GB.
func Bytes(n int64) string { return scaled(n, 1000, []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}) }

// Memory writes a size in binary units, as memory is sold: 512 MiB, 24 GiB.
func Memory(n int64) string {
	return scaled(n, 1024, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"})
}

func scaled(n int64, base float64, units []string) string {
	value, unit := float64(n), 0
	for math.Abs(value) >= base && unit < len(units)-1 {
		value /= base
		unit++
	}
	// 999.95 kB would be written as 1000 kB: it is 1.0 MB.
	if unit > 0 && unit < len(units)-1 && math.Round(math.Abs(value)) >= base {
		value /= base
		unit++
	}
	digits := 1
	if unit == 0 || math.Abs(value) >= 9.95 {
		digits = 0
	}
	return strings.TrimSpace(strconv.FormatFloat(value, 'f', digits, 64) + " " + units[unit])
}

// Count writes a whole number with thousands apart: 1,204,000.
func Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	b.WriteString(sign)
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// Number writes a measured value with about four digits: 0.412, 24.81, 310,
// 1.2e-05.
func Number(v float64) string {
	size := math.Abs(v)
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return strconv.FormatFloat(v, 'f', -1, 64)
	case v == math.Trunc(v) && size < 1e15:
		return Count(int64(v))
	case size >= 1000:
		return Count(int64(math.Round(v)))
	case size >= 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case size >= 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case size >= 0.001:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

// Measure writes a measured value that goes on changing, such as a loss: like
// Number, but with its decimals even where they are zero, so that it does not
// jump about.
func Measure(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1000 {
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
	return Number(v)
}

// Percent writes a fraction as a percentage: 0.913 is 91.3 %.
func Percent(v float64) string { return strconv.FormatFloat(100*v, 'f', 1, 64) + " %" }

// Plural writes a count with its noun: 1 row, 2 rows.
func Plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return Count(int64(n)) + " " + noun
}

// Short writes a large number with three digits: 1.2 M, 135 M, 7 B.
func Short(n int64) string { return scaled(n, 1000, []string{"", "k", "M", "B", "T", "Q", "E"}) }
