//go:build linux

package chaos

import (
	"math"
	"slices"
)

// trend is how a series grows: the slope by Theil and Sen, the median of the
// slopes between all pairs of samples, with an interval from Kendall's
// statistic (Sen 1968, Journal of the American Statistical Association 63). A few samples that are far
// off move neither. All are shares of the series' median per hour.
type trend struct {
	perHour, low, high float64
	level              float64 // median, in the series' own unit
	samples            int
}

// fit finds the trend of values at times (in hours, rising). z is the number of
// standard deviations that the interval is wide to each side. Samples of a
// process follow one another closely; the interval is widened as if there were
// only as many of them as their correlation leaves (Yue and Wang 2004, Water
// Resources Management 18). Too few of them give an infinite interval.
func fit(times, values []float64, z float64) trend {
	n := len(values)
	t := trend{samples: n, low: math.Inf(-1), high: math.Inf(1)}
	if n < 3 {
		return t
	}
	t.level = middle(values)
	var slopes []float64
	for i := range n {
		for j := i + 1; j < n; j++ {
			if d := times[j] - times[i]; d > 0 {
				slopes = append(slopes, (values[j]-values[i])/d)
			}
		}
	}
	slices.Sort(slopes)
	slope := middle(slopes)
	rest := make([]float64, n)
	for i := range n {
		rest[i] = values[i] - slope*times[i]
	}
	reach := z * math.Sqrt(kendallVariance(values)*stretch(rest))
	low := int(math.Floor((float64(len(slopes)) - reach) / 2))
	high := int(math.Ceil((float64(len(slopes)) + reach) / 2))
	scale := math.Max(t.level, 1)
	t.perHour = slope / scale
	if low >= 0 && high < len(slopes) {
		t.low, t.high = slopes[low]/scale, slopes[high]/scale
	} else if reach == 0 {
		t.low, t.high = t.perHour, t.perHour
	}
	return t
}

// kendallVariance is that of Kendall's S where nothing grows, with ties.
func kendallVariance(values []float64) float64 {
	ties := map[float64]float64{}
	for _, v := range values {
		ties[v]++
	}
	of := func(n float64) float64 { return n * (n - 1) * (2*n + 5) / 18 }
	sum := of(float64(len(values)))
	for _, n := range ties {
		sum -= of(n)
	}
	return math.Max(sum, 0)
}

// stretch is by how much the variance grows where each value follows the one
// before: (1+r)/(1-r), r being the correlation of neighbours.
func stretch(rest []float64) float64 {
	mean := 0.0
	for _, v := range rest {
		mean += v / float64(len(rest))
	}
	var own, next float64
	for i, v := range rest {
		own += (v - mean) * (v - mean)
		if i > 0 {
			next += (v - mean) * (rest[i-1] - mean)
		}
	}
	if own == 0 {
		return 1
	}
	r := math.Min(math.Max(next/own, 0), 0.95)
	return (1 + r) / (1 - r)
}

func middle(list []float64) float64 {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}
