package training

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// groupFactor is how many steps' worth of samples are sorted by length
// together. Rows are packed, so that lengths cost nothing in padding; batches
// of similar length keep the attention's scratch small. The factor is low, so
// that a batch stays a fair draw of the data.
const groupFactor = 8

// Order says which samples each step of an epoch sees. It is a pure function of
// its fields: nothing has to be saved to continue in the middle of an epoch.
type Order struct {
	Lengths []int // tokens of each sample
	PerStep int   // samples of one update
	Seed    uint64
}

// StepsPerEpoch counts the updates of one pass; the last may be smaller.
func (o Order) StepsPerEpoch() int {
	return (len(o.Lengths) + o.PerStep - 1) / o.PerStep
}

// Epoch returns the samples of each step of epoch number e, counted from 0.
// Every sample occurs exactly once.
func (o Order) Epoch(e int) [][]int {
	rng := rand.New(rand.NewPCG(o.Seed, 0x6f72646572<<16|uint64(e)))
	all := rng.Perm(len(o.Lengths))
	for group := range slices.Chunk(all, o.PerStep*groupFactor) {
		slices.SortStableFunc(group, func(a, b int) int { return cmp.Compare(o.Lengths[b], o.Lengths[a]) })
	}
	steps := slices.Collect(slices.Chunk(all, o.PerStep))
	// The smaller last batch stays last; the others must not come long to short.
	full := steps
	if n := len(steps); n > 0 && len(steps[n-1]) < o.PerStep {
		full = steps[:n-1]
	}
	rng.Shuffle(len(full), func(i, j int) { full[i], full[j] = full[j], full[i] })
	return steps
}
