package training

import (
	"slices"

	"github.com/tunemesh/tunemesh/trainer/plan"
	"github.com/tunemesh/tunemesh/trainer/sample"
)

// micros divides the samples of a step into micro-batches: a pure function of the
// step and of what was settled, so that a resumed training divides it alike.
func (t *trainer) micros(indexes []int) [][]int {
	c := t.config.Training
	if c.PackingTokens == 0 {
		return slices.Collect(slices.Chunk(indexes, c.BatchSize))
	}
	lengths := make([]int, len(indexes))
	for i, index := range indexes {
		lengths[i] = t.order.Lengths[index]
	}
	micros := plan.Pack(lengths, c.PackingTokens, t.pads)
	for _, micro := range micros {
		for i, at := range micro {
			micro[i] = indexes[at]
		}
	}
	return micros
}

// evaluationBatches divides the validation split. Where micro-batches are packed
// no batch is larger than they are: the buffers are made for those.
func (t *trainer) evaluationBatches() [][]sample.Sample {
	budget := t.config.Training.PackingTokens
	if budget == 0 {
		return slices.Collect(slices.Chunk(t.validation, max(t.config.Training.BatchSize, 16)))
	}
	var out [][]sample.Sample
	from, longest := 0, 0
	for i := range t.validation {
		wider := max(longest, len(t.validation[i].Tokens))
		if i > from && wider*(i-from+1) > budget {
			out, from, wider = append(out, t.validation[from:i]), i, len(t.validation[i].Tokens)
		}
		longest = wider
	}
	return append(out, t.validation[from:])
}
