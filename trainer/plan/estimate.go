package plan

import (
	"fmt"
	"slices"
)

// Run is what of a training its memory depends on.
type Run struct {
	Full      bool     // all weights are trained
	Rank      int      // of LoRA
	Targets   []string // modules with an adapter; all-linear for all
	Dropout   bool
	Batch     int    // samples of a micro-batch
	Length    int    // tokens of the longest sample
	Tokens    int    // of the largest micro-batch; Batch times Length if 0
	Precision string // f32, bf16, int8, int4: of the frozen weights
	// RoundedBytes: what a rounded activation takes; 0 where none is rounded.
	RoundedBytes int
	Recompute    bool // activations are computed once more on the way back
	// OneMicro: a step is one micro-batch, so that gradients come while activations
	// go; they stay where a step has several.
	OneMicro bool
	// Torch: the engine peft computes, in this way; nil for native.
	Torch *Torch
}

// Part is one use of memory.
type Part struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Estimate is the peak memory of a training, part by part: of the process that
// native is, or of what peft computes on (torchMemory).
type Estimate struct {
	Parts []Part
}

// Total is the sum of the parts, in bytes.
func (e Estimate) Total() int64 {
	var n int64
	for _, p := range e.Parts {
		n += p.Bytes
	}
	return n
}

// Fixed costs: what a stage takes before it has seen a model (program, runtime,
// the samples), and the share by which the heap runs over between two
// collections.
const (
	programBytes = 32 << 20
	slackPercent = 5
)

// MemoryOf estimates a training. Of native it counts the buffers that trainer/model
// and trainer/optim make; a test measures it against a process's peak.
func MemoryOf(s Shape, r Run) Estimate {
	if r.Torch != nil {
		return torchMemory(s, r)
	}
	tokens := int64(r.Tokens)
	if tokens == 0 {
		tokens = int64(r.Batch) * int64(r.Length)
	}
	e := Estimate{}
	add := func(name string, bytes int64) { e.Parts = append(e.Parts, Part{name, bytes}) }
	if r.Full {
		add("weights", 4*s.Parameters())
		add("gradients", 4*s.Parameters())
		add("optimizer", 8*s.Parameters())
	} else {
		add("weights", s.baseBytes(r.Precision))
		adapters := s.adapterParameters(r)
		add("adapters", 4*adapters)
		add("gradients", 4*adapters)
		add("optimizer", 8*adapters)
	}
	add("activations", 4*s.activations(r, tokens))
	add("head", 4*s.headValues(tokens))
	if r.RoundedBytes > 0 {
		add("rounded activations", int64(r.RoundedBytes)*s.roundedValues(tokens))
	}
	heap := e.Total()
	if !r.Full && r.Precision == "bf16" {
		heap -= e.Parts[0].Bytes // mapped
	}
	add("program", programBytes+heap*slackPercent/100)
	return e
}

// baseBytes is what the frozen weights take: embedding and head are never
// quantized (model.Precision).
func (s Shape) baseBytes(precision string) int64 {
	linear, rest := s.linearParameters(), s.Parameters()-s.linearParameters()
	switch precision {
	case "f32":
		return 4 * (linear + rest)
	case "int8":
		return 9*linear/8 + 2*rest
	case "int4":
		return 5*linear/8 + 2*rest
	}
	return 2 * (linear + rest)
}

func (s Shape) targeted(r Run) []linear {
	return slices.DeleteFunc(s.linears(), func(l linear) bool {
		return !slices.Contains(r.Targets, "all-linear") && !slices.Contains(r.Targets, l.name)
	})
}

func (s Shape) adapterParameters(r Run) int64 {
	var n int64
	for _, l := range s.targeted(r) {
		n += int64(r.Rank) * (l.in + l.out)
	}
	return n * int64(s.Layers)
}

// activations counts the values of model.acts and model.workspace.
func (s Shape) activations(r Run, tokens int64) int64 {
	d, f := int64(s.Hidden), int64(s.Intermediate)
	q, kv := int64(s.Heads*s.HeadDim), int64(s.KVHeads*s.HeadDim)
	layer := d + 2*q + 2*kv + int64(s.Heads) + 2 + 2*f + s.normValues()
	var shared int64 // by the adapters of all layers
	if !r.Full {
		for range s.targeted(r) {
			layer += int64(r.Rank) // A·x
		}
		shared = s.adapterBuffers(r)
	}
	layers := int64(s.Layers)
	kept := layers * layer
	if r.Recompute {
		kept = layer
	}
	inputs := (layers + 1) * d
	way := 2*f + 3*d + 2*q + 2*kv // buffers of the way back, shared by the layers
	return tokens * (kept + inputs + way + shared)
}

// adapterBuffers is, for each token, what the adapters of layers with one input need
// side by side: the gradient of A·x each, and with dropout their own input each and
// one gradient of it.
func (s Shape) adapterBuffers(r Run) int64 {
	var slots [3]int64
	var used, widest int64
	for _, l := range s.targeted(r) {
		_, i := inputOf(l.name)
		slots[i] = max(slots[i], l.in)
		widest = max(widest, l.in)
	}
	for _, in := range slots {
		if in > 0 {
			used += int64(r.Rank)
			if r.Dropout {
				used += in
			}
		}
	}
	if r.Dropout {
		used += widest
	}
	return used
}

// logitValues is model's bound of the logits that exist at one time.
const logitValues = 12 << 20

// roundedValues counts those of the product with most of them: the way back
// through the head, gate and up, or q, k and v.
func (s Shape) roundedValues(tokens int64) int64 {
	rows := min(tokens, max(24, logitValues/int64(s.Vocab)))
	layer := max(2*int64(s.Intermediate), int64((s.Heads+2*s.KVHeads)*s.HeadDim), int64(s.Hidden))
	return max(rows*int64(s.Vocab), tokens*layer)
}

func (s Shape) headValues(tokens int64) int64 {
	rows := min(tokens, max(24, logitValues/int64(s.Vocab)))
	return rows * int64(s.Vocab+4*s.Hidden)
}

// Bytes writes a size for people: "1.9 GiB", "310 MiB".
func Bytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
