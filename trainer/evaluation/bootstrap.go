package evaluation

import (
	"math/rand/v2"
	"slices"
)

// Resamples is how many times the samples are drawn anew for an interval; fewer, but
// 200 at least, if there are so many samples that it would take long. More samples
// need fewer draws for an interval as sharp.
const Resamples = 1000

func resamples(n int) int { return min(Resamples, max(200, 20_000_000/max(1, n))) }

// Interval is the middle 95 % of a figure.
type Interval [2]float64

// Comparison is one figure of both models on the same samples, with intervals by
// the paired bootstrap (Efron and Tibshirani 1993, ch. 13, percentiles; paired as
// in Koehn 2004, "Statistical Significance Tests for Machine Translation
// Evaluation"): the samples are drawn with replacement, the same for both models,
// and the figure is computed of each draw.
type Comparison struct {
	Metric      string   `json:"metric"`
	Samples     int      `json:"samples"`
	Resamples   int      `json:"resamples"`
	Base        float64  `json:"base"`
	BaseCI95    Interval `json:"base_ci95"`
	Tuned       float64  `json:"tuned"`
	TunedCI95   Interval `json:"tuned_ci95"`
	Difference  float64  `json:"difference"` // tuned less base
	DiffCI95    Interval `json:"difference_ci95"`
	Significant bool     `json:"significant"` // the difference's interval excludes 0
	LowerBetter bool     `json:"lower_is_better,omitempty"`
}

// Statistic computes a figure of some samples, given by their indexes, which may
// repeat.
type Statistic func(which []int) float64

// Compare bootstraps a figure of n samples. Equal seeds draw equal samples.
func Compare(metric string, n int, seed uint64, base, tuned Statistic) Comparison {
	which := make([]int, n)
	for i := range which {
		which[i] = i
	}
	c := Comparison{Metric: metric, Samples: n, Resamples: resamples(n), Base: base(which), Tuned: tuned(which)}
	c.Difference = c.Tuned - c.Base
	var draws [3][]float64
	rng := rand.New(rand.NewPCG(seed, 0x626f6f74))
	for range c.Resamples {
		for i := range which {
			which[i] = rng.IntN(n)
		}
		b, t := base(which), tuned(which)
		for i, v := range []float64{b, t, t - b} {
			draws[i] = append(draws[i], v)
		}
	}
	for i, ci := range []*Interval{&c.BaseCI95, &c.TunedCI95, &c.DiffCI95} {
		slices.Sort(draws[i])
		*ci = Interval{quantile(draws[i], 0.025), quantile(draws[i], 0.975)}
	}
	c.Significant = c.DiffCI95[0] > 0 || c.DiffCI95[1] < 0
	return c
}

// quantile interpolates between sorted values (numpy's and R's default, type 7 of
// Hyndman and Fan 1996).
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	part := at - float64(i)
	return sorted[i]*(1-part) + sorted[i+1]*part
}

// mean is the statistic of scores that each sample has by itself.
func mean(scores []float64) Statistic {
	return func(which []int) float64 {
		sum := 0.0
		for _, i := range which {
			sum += scores[i]
		}
		return sum / float64(len(which))
	}
}

// perToken is the statistic of sums over tokens: their mean over all tokens drawn.
func perToken(sums []float64, tokens []int64) Statistic {
	return func(which []int) float64 {
		sum, n := 0.0, int64(0)
		for _, i := range which {
			sum, n = sum+sums[i], n+tokens[i]
		}
		return sum / float64(n)
	}
}

// bleuOf is BLEU over the answers drawn.
func bleuOf(counts []BLEUCounts) Statistic {
	return func(which []int) float64 {
		var all BLEUCounts
		for _, i := range which {
			all.Add(counts[i])
		}
		return all.BLEU(false)
	}
}

// macroF1Of is macro F1 of the predictions drawn, over the classes that the whole
// test split or either model's predictions have.
func macroF1Of(classes int, truth, predicted []int) Statistic {
	hit, support, claimed := make([]int, classes), make([]int, classes), make([]int, classes)
	return func(which []int) float64 {
		clear(hit)
		clear(support)
		clear(claimed)
		for _, i := range which {
			support[truth[i]]++
			claimed[predicted[i]]++
			if truth[i] == predicted[i] {
				hit[truth[i]]++
			}
		}
		sum := 0.0
		for k := range hit {
			sum += ratio(2*hit[k], support[k]+claimed[k])
		}
		return sum / float64(classes)
	}
}
