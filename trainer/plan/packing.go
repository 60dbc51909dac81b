package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// Pack divides the samples of a step, given by their lengths in tokens, into
// micro-batches of at most so many tokens, and returns their indexes: first-fit
// by falling length, so that there are few of them. A sample longer than budget
// stands alone. With padded, as for an engine that fills all rows up to the
// longest one, padding counts, and only neighbours in length share a micro-batch.
// It is a pure function: the same lengths give the same micro-batches, in which
// the longest sample comes first.
func Pack(lengths []int, budget int, padded bool) [][]int {
	order := make([]int, len(lengths))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(lengths[b], lengths[a]) })
	var micros [][]int
	var taken []int // tokens of each micro-batch
	fits := func(at, n int) bool {
		if padded {
			n = lengths[micros[at][0]]
		}
		return taken[at]+n <= budget
	}
	open := 0 // all before it are full
	for _, i := range order {
		n, least := lengths[i], lengths[order[len(order)-1]]
		for open < len(micros) && !fits(open, n) && (padded || !fits(open, least)) {
			open++
		}
		at := open
		for at < len(micros) && !fits(at, n) {
			at++
		}
		if at == len(micros) {
			micros, taken = append(micros, nil), append(taken, 0)
		}
		micros[at] = append(micros[at], i)
		if padded {
			n = lengths[micros[at][0]]
		}
		taken[at] += n
	}
	return micros
}

// micro is one way to divide a step: batch times accumulation samples, either
// batch of them in each micro-batch or as many as packing tokens hold.
type micro struct {
	batch, accumulation int
	packing             int // most tokens; 0 for batch samples each
}

func (m micro) samples() int { return m.batch * m.accumulation }

// microsOf lists the ways to divide a step that the config leaves open, the
// largest micro-batches first. Where samples differ in length, a smaller number of
// the longest ones is as many tokens as several more of the others: these are
// packed instead, which takes the same memory and fewer micro-batches.
func microsOf(c contract.TrainingConfig, m Machine, d Data) []micro {
	accumulation := func(batch int) int {
		switch {
		case c.GradientAccum > 0:
			return c.GradientAccum
		case c.BatchSize > 0:
			return 1
		}
		return wantedSamples / batch
	}
	if c.BatchSize > 0 || c.PackingTokens > 0 {
		batch := cmp.Or(c.BatchSize, wantedSamples)
		return []micro{{batch, accumulation(batch), c.PackingTokens}}
	}
	out := []micro{{wantedSamples, accumulation(wantedSamples), 0}}
	for b := wantedSamples / 2; b >= 1; b /= 2 {
		if m.Torch == nil && d.packs(b) {
			out = append(out, micro{wantedSamples, accumulation(wantedSamples), d.tokens(b)})
		} else {
			out = append(out, micro{b, accumulation(b), 0})
		}
	}
	return out
}

// packs says that micro-batches of as many tokens as the batch longest samples
// have hold clearly more samples on average.
func (d Data) packs(batch int) bool {
	const clearly = 1.25
	return len(d.Lengths) > batch && float64(d.tokens(batch)) >= clearly*float64(batch)*d.mean()
}

// mean is the average length where the data are there, else the assumed one.
func (d Data) mean() float64 {
	if len(d.Lengths) == 0 {
		return float64(d.Length)
	}
	sum := 0
	for _, l := range d.Lengths {
		sum += l
	}
	return float64(sum) / float64(len(d.Lengths))
}

// largest counts the tokens of the largest micro-batch there can be, with padding
// where the machine's engine pads.
func (d Data) largest(w micro, m Machine) int {
	tokens := d.tokens
	if m.Torch != nil {
		tokens = func(batch int) int { return batch * d.longest() }
	}
	if w.packing == 0 {
		return tokens(w.batch)
	}
	return max(d.longest(), min(w.packing, tokens(w.samples())))
}

// packingReason says what packing does for a step of the settled training.
func packingReason(c contract.TrainingConfig, asked bool, m Machine, d Data) string {
	samples := c.BatchSize * c.GradientAccum
	count := max(1, (int(float64(samples)*d.mean())+c.PackingTokens-1)/c.PackingTokens)
	words := fmt.Sprintf("a step has %d samples, of %.0f tokens on average and %d at most: packed, about %d %s", samples, d.mean(), d.longest(), count, plural(count, "micro-batch", "micro-batches"))
	if m.Torch != nil {
		words += ", padding counted"
	}
	switch {
	case !asked:
		return words + "; that fits, and 8 of the longest at once would not"
	case count >= c.GradientAccum:
		return words + fmt.Sprintf(", and %d without packing, which gains nothing here", c.GradientAccum)
	}
	return words + fmt.Sprintf(" rather than %d", c.GradientAccum)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
