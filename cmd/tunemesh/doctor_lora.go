package main

import (
	"fmt"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/plan"
)

// loraLimit says up to which size a device trains by LoRA, in billions of
// parameters of the base model.
type loraLimit struct {
	Device      string  `json:"device"` // cpu, or the GPU's name
	MemoryBytes int64   `json:"memory_bytes"`
	Billions    float64 `json:"billions"`                // the base in bf16, as most are stored
	Int4        float64 `json:"billions_int4,omitempty"` // quantised, where the device can
	Hint        string  `json:"hint,omitempty"`
}

// Assumptions of the estimate: samples as long as the API takes them for where a
// job does not say, and what CUDA and PyTorch hold beside a training.
const (
	loraLength = 512
	gpuReserve = 2 << 30
)

// decoder is a typical one of a width: shapes between SmolLM2-135M and
// Llama-3.1-70B (their config.json files), with a vocabulary as Qwen's.
func decoder(width int) plan.Shape {
	return plan.Shape{Hidden: width, Intermediate: 3 * width, Layers: max(24, width/102), Heads: max(1, width/128), KVHeads: max(1, min(8, width/128)),
		HeadDim: 128, Vocab: 151_936, Context: 8192, Tied: width < 3072, DType: "BF16"}
}

// widest is the bound of the search: more than a trillion parameters.
const widest = 40_960

// onCPU says whether a training of the engine native fits, by the same rules that
// a job is planned by.
func onCPU(memory int64, precision string) func(plan.Shape) bool {
	return func(s plan.Shape) bool {
		c := contract.Config{}.WithDefaults().Training
		c.BatchSize, c.BasePrecision = 0, precision // the batch is what fits
		_, err := plan.Settle(c, s, plan.Machine{Memory: memory}, plan.Data{Length: loraLength})
		return err == nil
	}
}

// onGPU says whether a training of the engine peft fits: one sample at a time,
// activations computed twice.
func onGPU(memory int64, precision string) func(plan.Shape) bool {
	return func(s plan.Shape) bool {
		c := contract.Config{}.WithDefaults().Training
		e := plan.MemoryOf(s, plan.Run{Rank: c.Rank, Targets: c.TargetModules, Batch: 1, Length: loraLength, Precision: precision, Recompute: true})
		return e.Total()+gpuReserve <= memory
	}
}

// largest is the size of the largest decoder that fits.
func largest(memory int64, fits func(plan.Shape) bool) float64 {
	if memory <= 0 {
		return 0 // not known
	}
	low, high := 0, widest/128 // in steps of one head
	for low < high {
		mid := (low + high + 1) / 2
		if fits(decoder(mid * 128)) {
			low = mid
		} else {
			high = mid - 1
		}
	}
	if low == 0 {
		return 0
	}
	return float64(decoder(low*128).Parameters()/1e8) / 10
}

// loraLimits are those of the CPU and of each GPU. A GPU trains by the engine
// peft; where that is missing the hint says so.
func loraLimits(c api.Capability) []loraLimit {
	m := c.MemoryBytes
	out := []loraLimit{{Device: "cpu", MemoryBytes: m, Billions: largest(m, onCPU(m, "bf16")), Int4: largest(m, onCPU(m, "int4"))}}
	for _, g := range c.GPUs {
		m := g.MemoryBytes
		l := loraLimit{Device: fmt.Sprintf("GPU %d (%s)", g.Index, g.Name), MemoryBytes: m, Billions: largest(m, onGPU(m, "bf16"))}
		if g.Kind == "cuda" { // where bitsandbytes quantises
			l.Int4 = largest(m, onGPU(m, "int4"))
		}
		if !c.HasEngine("peft") {
			l.Hint = "once the engine peft is there: tunemesh engine install peft"
		}
		out = append(out, l)
	}
	return out
}

func (l loraLimit) String() string {
	switch {
	case l.MemoryBytes <= 0:
		return fmt.Sprintf("how much memory the %s has is not known, so nothing is said of what it trains", l.Device)
	case l.Billions < 0.1 && l.Int4 < 0.1:
		return fmt.Sprintf("LoRA on the %s: only models below 0.1 B parameters", l.Device)
	case l.Int4 > l.Billions:
		return fmt.Sprintf("LoRA on the %s: up to about %.1f B parameters, %.1f B with the base in 4 bits", l.Device, l.Billions, l.Int4)
	}
	return fmt.Sprintf("LoRA on the %s: up to about %.1f B parameters", l.Device, l.Billions)
}
