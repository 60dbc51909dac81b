package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// Machine is what a training may use.
type Machine struct {
	// Memory in bytes; 0 where it is not known or not this estimate's concern, so
	// that nothing is refused.
	Memory int64
	// Whose names the memory: "free", "of node n1".
	Whose string
	// Reserved: the memory is a promise made for this very training, which may use
	// all of it.
	Reserved bool
	Cores    int
	// Kernels is the instruction set of the inner loops, if known.
	Kernels string
	// BF16: the processor multiplies bfloat16 in pairs (AVX512_BF16).
	BF16 bool
	// Torch: the engine peft computes, in this way, which fills the rows of a
	// micro-batch up to the longest one; nil for native. Memory is then that of the
	// device: of each card, or on the CPU of the machine.
	Torch *Torch
}

// Data is what is known of the samples.
type Data struct {
	// Lengths of all training samples in tokens, where the data are there.
	Lengths []int
	// Length of the longest sample, where Lengths is not known, and why this one.
	Length int
	Assume string
}

// longest and tokens are the length of the longest sample and the tokens of the
// largest micro-batch there can be.
func (d Data) longest() int {
	if len(d.Lengths) > 0 {
		return slices.Max(d.Lengths)
	}
	return d.Length
}

func (d Data) tokens(batch int) int {
	if len(d.Lengths) == 0 {
		return batch * d.Length
	}
	sorted := slices.SortedFunc(slices.Values(d.Lengths), func(a, b int) int { return cmp.Compare(b, a) })
	n := 0
	for _, l := range sorted[:min(batch, len(sorted))] {
		n += l
	}
	return n
}

// Setting is one setting that was left open, and why it has its value.
type Setting struct {
	Field  string `json:"field"` // path in the config; memory for the estimate
	Value  string `json:"value"`
	Reason string `json:"reason"`
}

// Settled is a training without open questions.
type Settled struct {
	Training  contract.TrainingConfig
	Recompute bool // activations are computed twice rather than kept; the same bits
	Run       Run
	Estimate  Estimate
	Settings  []Setting
}

// usable is the part of the memory that a training may fill.
const usable = 0.9

// fits says whether an estimate fits into the machine.
func (m Machine) fits(e Estimate) bool {
	part := usable
	if m.Reserved {
		part = 1
	}
	return m.Memory <= 0 || float64(e.Total()) <= part*float64(m.Memory)
}

// PureGo is the name of the loops of processors without AVX2.
const PureGo = "pure-go"

// wantedSamples of a step, as the learning rates were chosen for, and the tokens
// from which on a larger micro-batch is hardly faster.
const (
	wantedSamples = 8
	enoughTokens  = 256
)

// way is one way to run a job.
type way struct {
	micro
	precision string
	recompute bool
}

// Settle fills in what the config c, which has its defaults, leaves open. A
// training that does not fit however it is run is a *contract.Error which names
// the field and says which settings would fit.
func Settle(c contract.TrainingConfig, s Shape, m Machine, d Data) (Settled, error) {
	ways := waysOf(c, s, m, d)
	for _, w := range ways {
		out := settled(c, s, m, d, w)
		if m.fits(out.Estimate) {
			out.explain(c, s, m, d, w != ways[0])
			return out, nil
		}
	}
	least := settled(c, s, m, d, ways[len(ways)-1])
	return least, refusal(c, s, m, d, least)
}

// waysOf lists the ways in the order of preference: the stored precision before
// coarser ones; a full micro-batch, then smaller ones that are still large enough
// to be fast, then activations computed twice.
func waysOf(c contract.TrainingConfig, s Shape, m Machine, d Data) []way {
	micros := microsOf(c, m, d)
	var out []way
	for _, p := range precisionsOf(c, s, m) {
		for i, m := range micros {
			if i == 0 || max(m.packing, m.batch*d.longest()) >= enoughTokens {
				out = append(out, way{m, p, false})
			}
		}
		for _, m := range micros {
			out = append(out, way{m, p, true})
		}
	}
	return out
}

func precisionsOf(c contract.TrainingConfig, s Shape, m Machine) []string {
	switch {
	case c.Method == "full":
		return []string{"f32"}
	case c.BasePrecision != "auto" && c.BasePrecision != "":
		return []string{c.BasePrecision}
	case m.Torch != nil: // coarser ones need a library that the node may lack
		return []string{m.Torch.Auto}
	case s.DType == "BF16", c.Compute == "bf16":
		return []string{"bf16", "int8", "int4"}
	}
	return []string{"f32", "bf16", "int8", "int4"}
}

func settled(c contract.TrainingConfig, s Shape, m Machine, d Data, w way) Settled {
	c.BatchSize, c.GradientAccum, c.PackingTokens = w.batch, w.accumulation, w.packing
	if m.Torch != nil {
		c.Compute = "" // and what auto means is that engine's concern
	} else {
		c.BasePrecision = w.precision
		c.Compute, _ = computeOf(c, m)
	}
	if c.LearningRate == 0 {
		c.LearningRate, _ = learningRate(s)
	}
	r := Run{Full: c.Method == "full", Rank: c.Rank, Targets: c.TargetModules, Dropout: c.Dropout > 0,
		Batch: w.batch, Length: d.longest(), Tokens: d.largest(w.micro, m), Precision: w.precision, Recompute: w.recompute,
		OneMicro: w.packing == 0 && w.accumulation == 1, Torch: m.Torch}
	switch {
	case c.Compute == "bf16" && m.BF16:
		r.RoundedBytes = 2
	case c.Compute == "bf16":
		r.RoundedBytes = 4
	}
	return Settled{Training: c, Recompute: w.recompute, Run: r, Estimate: MemoryOf(s, r)}
}

// learningRate is a peak learning rate for LoRA that suits models of a size: the
// small one was measured on the bundled model and data (from 0.003 on it
// collapses), the large one is what PEFT's examples and the QLoRA paper use for
// models of 7 billion parameters and more.
func learningRate(s Shape) (rate float64, reason string) {
	n := s.Parameters()
	switch {
	case n < 20_000_000:
		return 2e-3, fmt.Sprintf("the model has %s parameters, below 20 million", count(n))
	case n < 1_000_000_000:
		return 5e-4, fmt.Sprintf("the model has %s parameters, below a billion", count(n))
	}
	return 2e-4, fmt.Sprintf("the model has %s parameters, a billion and more", count(n))
}

func count(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f billion", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f million", float64(n)/1e6)
	}
	return fmt.Sprintf("%d", n)
}

// explain says why each setting that was open has its value.
func (out *Settled) explain(c contract.TrainingConfig, s Shape, m Machine, d Data, cut bool) {
	say := func(field, value, format string, args ...any) {
		out.Settings = append(out.Settings, Setting{field, value, fmt.Sprintf(format, args...)})
	}
	size := Bytes(out.Estimate.Total())
	have := "the memory is not limited here"
	if m.Memory > 0 {
		have = fmt.Sprintf("%s of %s %s", size, Bytes(m.Memory), m.Whose)
	}
	length := fmt.Sprintf("%d tokens", d.longest())
	if d.Assume != "" {
		length += " (" + d.Assume + ")"
	}
	packed := out.Training.PackingTokens > 0
	switch {
	case c.BatchSize == 0 && packed:
		say("training.batch_size", fmt.Sprint(out.Training.BatchSize), "of a step, with training.gradient_accumulation: micro-batches are packed by their tokens")
	case c.BatchSize == 0:
		why := "the full micro-batch fits"
		if out.Training.BatchSize < wantedSamples {
			why = "a larger one would not fit"
		}
		say("training.batch_size", fmt.Sprint(out.Training.BatchSize), "batch %d x %s: %s; %s", out.Training.BatchSize, length, have, why)
	}
	if packed {
		say("training.packing_tokens", fmt.Sprint(out.Training.PackingTokens), "%s", packingReason(out.Training, c.PackingTokens > 0, m, d))
	}
	if c.GradientAccum == 0 {
		say("training.gradient_accumulation", fmt.Sprint(out.Training.GradientAccum), "a step has %d samples", out.Training.BatchSize*out.Training.GradientAccum)
	}
	if c.BasePrecision == "auto" || c.BasePrecision == "" {
		say("training.base_precision", out.Run.Precision, "%s", precisionReason(c, s, m, out.Run.Precision))
	}
	if compute, reason := computeOf(contract.TrainingConfig{Method: c.Method, Compute: c.Compute, BasePrecision: out.Training.BasePrecision}, m); reason != "" && m.Torch == nil {
		say("training.compute", compute, "%s", reason)
	}
	if c.LearningRate == 0 {
		_, reason := learningRate(s)
		say("training.learning_rate", fmt.Sprint(out.Training.LearningRate), "%s", reason)
	}
	if out.Recompute {
		say("activations", "recomputed", "kept, they would not fit; computed twice they take a third more time and give the same bits")
	}
	if m.Torch != nil {
		say("memory", size, "%s; %s; %s", have, parts(out.Estimate), m.Torch.words())
		return
	}
	arithmetic := "arithmetic in f32"
	if out.Training.Compute == "bf16" {
		arithmetic = "arithmetic in bf16 and f32"
	}
	if m.Kernels != "" {
		arithmetic += " by the " + m.Kernels + " loops"
	}
	if m.Cores > 0 {
		arithmetic += fmt.Sprintf(" on %d cores", m.Cores)
	}
	say("memory", size, "%s; %s; %s", have, parts(out.Estimate), arithmetic)
}

func precisionReason(c contract.TrainingConfig, s Shape, m Machine, p string) string {
	switch {
	case c.Method == "full":
		return "all weights are trained, in f32"
	case m.Torch != nil:
		return m.Torch.autoReason()
	case p == "bf16" && s.DType == "BF16", p == "f32" && s.DType == "F32":
		return "as stored"
	case p == "f32":
		return "stored as F16, whose fraction bf16 could not hold"
	}
	return "as stored (" + s.DType + ") the weights would not fit"
}

// parts lists an estimate's parts, the largest first.
func parts(e Estimate) string {
	list := slices.SortedStableFunc(slices.Values(e.Parts), func(a, b Part) int { return cmp.Compare(b.Bytes, a.Bytes) })
	words := ""
	for i, p := range list {
		if i > 0 {
			words += ", "
		}
		words += p.Name + " " + Bytes(p.Bytes)
	}
	return words
}
