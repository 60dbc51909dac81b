package evaluation

import "fmt"

// Verdict says in a sentence which model is better by this figure, and no more
// than the interval of the difference allows: where it holds 0, that there is no
// difference to be seen.
func (c Comparison) Verdict() string {
	figures := fmt.Sprintf("%s %+.4g (95 %% interval %+.4g to %+.4g)", c.Metric, c.Difference, c.DiffCI95[0], c.DiffCI95[1])
	switch {
	case !c.Significant:
		return fmt.Sprintf("No difference that %s can show: %s.", samples(c.Samples), figures)
	case (c.Difference > 0) != c.LowerBetter:
		return fmt.Sprintf("The tuned model beats the base model over %s: %s.", samples(c.Samples), figures)
	}
	return fmt.Sprintf("The tuned model is worse than the base model over %s: %s.", samples(c.Samples), figures)
}

func samples(n int) string {
	if n == 1 {
		return "1 sample"
	}
	return fmt.Sprintf("%d samples", n)
}
