package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// alternative is a change of settings with which a training would fit.
type alternative struct {
	words string
	bytes int64
}

// refusal says that a training does not fit, what takes the memory, and which
// changes of the settings would make it fit.
func refusal(c contract.TrainingConfig, s Shape, m Machine, d Data, least Settled) *contract.Error {
	field := blame(c, m, least)
	e := &contract.Error{
		Class: contract.ClassResources, Code: "DOES_NOT_FIT", Field: field,
		Message: fmt.Sprintf("the training needs %s of memory, and %s are %s: %s", Bytes(least.Estimate.Total()), Bytes(m.Memory), m.Whose, parts(least.Estimate)),
	}
	var fits []string
	for _, a := range alternatives(c, s, m, d) {
		fits = append(fits, fmt.Sprintf("%s (%s)", a.words, Bytes(a.bytes)))
	}
	if a, ok := byNative(c, s, m, d); ok {
		fits = append(fits, fmt.Sprintf("%s (%s)", a.words, Bytes(a.bytes)))
	}
	if len(fits) == 0 {
		e.Hint = "no setting would make it fit: use a smaller model or a machine with more memory"
		return e
	}
	e.Hint = "would fit: " + strings.Join(fits, "; or ")
	return e
}

// byNative is the same training by the engine native, where peft does not fit into
// the machine's own memory: it needs no PyTorch and keeps less.
func byNative(c contract.TrainingConfig, s Shape, m Machine, d Data) (alternative, bool) {
	if m.Torch == nil || !m.Torch.shares() {
		return alternative{}, false
	}
	words := "training.engine=native"
	if c.Workers > 1 {
		words += " and " + oneWorker(&c)
	}
	m.Torch = nil
	out, err := Settle(c, s, m, d)
	return alternative{words, out.Estimate.Total()}, err == nil
}

// blame names the field that the largest part of the memory follows from.
func blame(c contract.TrainingConfig, m Machine, least Settled) string {
	parts := least.Estimate.Parts
	// Further workers are the rest once more each: to blame where one alone would fit.
	alone := Estimate{slices.DeleteFunc(slices.Clone(parts), func(p Part) bool { return p.Name == furtherWorkers })}
	if !m.fits(alone) {
		parts = alone.Parts
	}
	largest := slices.MaxFunc(parts, func(a, b Part) int { return int(a.Bytes>>10 - b.Bytes>>10) })
	switch largest.Name {
	case furtherWorkers:
		return "training.workers"
	case "PyTorch":
		return "training.engine"
	case "activations", "head", "allocator":
		if c.PackingTokens > least.Run.Length {
			return "training.packing_tokens"
		}
		if c.BatchSize > 1 && c.PackingTokens == 0 {
			return "training.batch_size"
		}
		return "preprocessing.max_length"
	case "adapters":
		return "training.rank"
	case "gradients", "buckets", "optimizer":
		if c.Method == "full" {
			return "training.method"
		}
		return "training.rank"
	}
	if c.Method == "full" {
		return "training.method"
	}
	if c.BasePrecision != "auto" && c.BasePrecision != "" && c.BasePrecision != "int4" {
		return "training.base_precision"
	}
	return "model"
}

// change is one setting changed.
type change struct {
	words string
	apply func(c *contract.TrainingConfig, d *Data)
}

// alternatives lists single changes that make the training fit, the mildest of
// each kind; if there is none, the first set of several.
func alternatives(c contract.TrainingConfig, s Shape, m Machine, d Data) []alternative {
	try := func(changes ...change) (alternative, bool) {
		c, d := c, d
		m := m
		var words []string
		for _, ch := range changes {
			ch.apply(&c, &d)
			words = append(words, ch.words)
		}
		quantised := c.BasePrecision == "int8" || c.BasePrecision == "int4"
		if quantised && c.Sharding == "fsdp" {
			return alternative{}, false // no valid config
		}
		if m.Torch != nil {
			m.Torch = m.Torch.with(c)
		}
		for _, w := range waysOf(c, s, m, d) {
			if out := settled(c, s, m, d, w); m.fits(out.Estimate) {
				return alternative{strings.Join(words, " and "), out.Estimate.Total()}, true
			}
		}
		return alternative{}, false
	}
	kinds := kindsOf(c, s, m, d)
	var out []alternative
	for _, kind := range kinds {
		for _, ch := range kind {
			if a, ok := try(ch); ok {
				out = append(out, a)
				break
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	// The last of each kind goes furthest: take one kind after the other along.
	var all []change
	for _, kind := range kinds {
		if len(kind) == 0 {
			continue
		}
		for _, ch := range kind {
			if a, ok := try(append(slices.Clone(all), ch)...); ok {
				return []alternative{a}
			}
		}
		all = append(all, kind[len(kind)-1])
	}
	return nil
}

// kindsOf lists the changes that can be made, by kind, each from the mildest on.
func kindsOf(c contract.TrainingConfig, s Shape, m Machine, d Data) [][]change {
	var packing, batch, length, precision, rank, method []change
	// The same samples a step, in smaller micro-batches.
	for n := cmp.Or(c.PackingTokens, d.tokens(max(c.BatchSize, 1))) / 2; c.PackingTokens+c.BatchSize > 1 && n >= d.longest(); n /= 2 {
		packing = append(packing, change{fmt.Sprintf("training.packing_tokens=%d", n), func(c *contract.TrainingConfig, _ *Data) { c.PackingTokens = n }})
	}
	for b := c.BatchSize / 2; b >= 1 && c.PackingTokens == 0; b /= 2 {
		batch = append(batch, change{fmt.Sprintf("training.batch_size=%d", b), func(c *contract.TrainingConfig, _ *Data) { c.BatchSize = b }})
	}
	for l := (d.longest() - 1) / 32 * 32; l >= 32; l -= 32 {
		length = append(length, change{fmt.Sprintf("preprocessing.max_length=%d", l), func(_ *contract.TrainingConfig, d *Data) { *d = d.shorter(l) }})
	}
	current, size := c.BasePrecision, s.baseBytes
	if m.Torch != nil {
		size = s.torchBaseBytes
		if current == "auto" || current == "" { // of which native chooses itself
			current = m.Torch.Auto
		}
	}
	if c.Method != "full" && current != "auto" && current != "" {
		for _, p := range []string{"bf16", "int8", "int4"} {
			if size(p) < size(current) {
				precision = append(precision, change{"training.base_precision=" + p, func(c *contract.TrainingConfig, _ *Data) { c.BasePrecision = p }})
			}
		}
	}
	if c.Method == "full" {
		method = append(method, change{"training.method=lora", func(c *contract.TrainingConfig, _ *Data) { c.Method = "lora"; c.BasePrecision = "auto" }})
	} else {
		for r := c.Rank / 2; r >= 4; r /= 2 {
			rank = append(rank, change{fmt.Sprintf("training.rank=%d", r), func(c *contract.TrainingConfig, _ *Data) { c.Rank = r }})
		}
	}
	return [][]change{packing, batch, precision, length, rank, method, workerChanges(c, m)}
}

// workerChanges are those of the engine peft: fewer processes where they share the
// memory, a part of the model for each where they do not.
func workerChanges(c contract.TrainingConfig, m Machine) []change {
	var out []change
	if m.Torch == nil || m.Torch.Workers < 2 {
		return nil
	}
	for n := m.Torch.Workers / 2; n >= 1 && m.Torch.shares(); n /= 2 {
		if n == 1 {
			changed := c
			out = append(out, change{oneWorker(&changed), func(c *contract.TrainingConfig, _ *Data) { oneWorker(c) }})
			continue
		}
		out = append(out, change{fmt.Sprintf("training.workers=%d", n), func(c *contract.TrainingConfig, _ *Data) { c.Workers = n }})
	}
	if !m.Torch.shares() && !m.Torch.Sharded {
		out = append(out, change{"training.sharding=fsdp", func(c *contract.TrainingConfig, _ *Data) { c.Sharding = "fsdp" }})
	}
	return out
}

// oneWorker leaves a training one process, which has nothing to share, and returns the
// settings that say so.
func oneWorker(c *contract.TrainingConfig) string {
	words := "training.workers=1"
	if c.Sharding == "fsdp" {
		words += " and training.sharding=none"
	}
	c.Workers, c.Sharding = 1, "none"
	return words
}

// shorter cuts the samples.
func (d Data) shorter(length int) Data {
	d.Length = min(d.Length, length)
	d.Lengths = slices.Clone(d.Lengths)
	for i := range d.Lengths {
		d.Lengths[i] = min(d.Lengths[i], length)
	}
	return d
}
