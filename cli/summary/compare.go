package summary

import "slices"

// comparison is one figure of both models with the bootstrap interval of its
// difference. The first one of an evaluation decides.
type comparison struct {
	Metric      string     `json:"metric"`
	Samples     int        `json:"samples"`
	Difference  float64    `json:"difference"` // tuned less base
	Interval    [2]float64 `json:"difference_ci95"`
	Significant bool       `json:"significant"` // the interval excludes zero
	LowerBetter bool       `json:"lower_is_better"`
}

// better says that the tuned model is, beyond chance.
func (c comparison) better() bool {
	return c.Significant && (c.Difference > 0) != c.LowerBetter
}

func (c comparison) verdict() string {
	switch {
	case !c.Significant:
		return "no difference shown"
	case c.better():
		return "better"
	}
	return "worse"
}

// compared finds the comparison of a figure.
func (e evaluation) compared(key string) (comparison, bool) {
	i := slices.IndexFunc(e.Comparisons, func(c comparison) bool { return c.Metric == key })
	if i < 0 {
		return comparison{}, false
	}
	return e.Comparisons[i], true
}
