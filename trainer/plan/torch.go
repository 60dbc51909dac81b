package plan

import (
	"fmt"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// Torch is how the engine peft computes a training: in so many processes of
// PyTorch, each on its own device, or all of them on the CPU.
type Torch struct {
	Device string // cpu, cuda (ROCm's build calls itself so too) or mps
	// Auto is the precision of frozen weights and products where the config leaves
	// it open: f32, bf16 or f16. The engine's device.py decides by the same rules.
	Auto    string
	Workers int  // processes, each with its share of every micro-batch
	Sharded bool // each keeps a part of weights and optimizer state (fsdp)
}

// TorchOn says how the engine peft computes on a kind of device; bf16 says that the
// device multiplies BF16 itself.
func TorchOn(device string, bf16 bool, c contract.TrainingConfig) *Torch {
	t := Torch{Device: device, Auto: "f32"}.with(c)
	switch {
	case device == "cuda" && bf16:
		t.Auto = "bf16"
	case device == "cuda":
		t.Auto = "f16"
	}
	return t
}

// with is the same device with the config's workers.
func (t Torch) with(c contract.TrainingConfig) *Torch {
	t.Workers, t.Sharded = max(1, c.Workers), c.Sharding == "fsdp" && c.Workers > 1
	return &t
}

// shares says that the workers take their memory from one store.
func (t *Torch) shares() bool { return t.Device == "cpu" }

func (t *Torch) autoReason() string {
	switch t.Auto {
	case "bf16":
		return "the card computes in BF16"
	case "f16":
		return "the card does not compute in BF16: F16 with a loss scale"
	}
	if t.Device == "cpu" {
		return "peft computes in F32 on a CPU"
	}
	return "peft computes in F32 on " + t.Device
}

// words says what computes, and where the memory is.
func (t *Torch) words() string {
	words := "PyTorch on the CPU"
	if !t.shares() {
		words = "PyTorch on " + t.Device + ", not measured on a card"
	}
	if t.Workers > 1 {
		words += fmt.Sprintf(", %d workers", t.Workers)
		switch {
		case t.Sharded:
			words += ", each with a part of weights and optimizer (fsdp)"
		default:
			words += ", each with the whole model (ddp)"
		}
		if !t.shares() {
			words += "; the memory is that of one card"
		}
	}
	return words
}

// What a process takes beside the model's tensors. On the CPU: the interpreter with
// torch, transformers and peft loaded, measured as its resident memory (torch 2.15:
// 775 MiB), and what a quantised base adds to it (measured with two shapes). On a card:
// CUDA's context and kernels, of which Hugging Face's documentation (transformers,
// "Model training anatomy") gives 1.3 GB for a V100. The launcher of several workers is
// a torch without a model.
const (
	torchProcessBytes   = 775 << 20
	torchQuantiserBytes = 130 << 20
	torchContextBytes   = 1300 << 20
	torchLauncherBytes  = 540 << 20
)

// What the allocator holds beyond the tensors of a step, in percent. On the CPU it is
// measured, of the activations and of the logits: glibc's heap does not give back what
// lies between. On a card it is the average that GMLake (arXiv 2401.08156) found for
// PyTorch's caching allocator.
const (
	torchHeapPercent     = 50
	torchHeapHeadPercent = 100
	torchPoolPercent     = 15
)

// furtherWorkers is the part of all workers but one where they share a memory.
const furtherWorkers = "further workers"

// torchMemory estimates a training by the engine peft on one device: a card, or on
// the CPU the node, with all workers. It counts what autograd keeps of the layers as
// transformers writes them, for rows that are padded to the longest; a test in
// test/peft measures it against a process's peak.
func torchMemory(s Shape, r Run) Estimate {
	t := r.Torch
	rows := (r.rows() + t.Workers - 1) / t.Workers
	tokens := int64(rows) * int64(r.Length)
	kept := int64(1) // parts that weights and optimizer are divided into
	if t.Sharded {
		kept = int64(t.Workers)
	}
	weights, trained := s.torchBaseBytes(r.Precision), s.adapterParameters(r)
	if r.Full {
		weights, trained = 4*s.Parameters(), s.Parameters()
	}
	e := Estimate{}
	add := func(name string, bytes int64) {
		if bytes > 0 {
			e.Parts = append(e.Parts, Part{name, bytes})
		}
	}
	add("weights", weights/kept)
	if !r.Full {
		add("adapters", 4*trained/kept)
	}
	add("optimizer", 8*trained/kept)
	if t.Workers > 1 && !t.Sharded {
		add("buckets", 4*trained) // DistributedDataParallel's, of the gradients
	}
	if t.Sharded {
		add("gathered", s.gatheredBytes(r))
	}
	width := r.width()
	if r.Full && width < 4 {
		add("rounded weights", width*trained/kept) // which autocast keeps for the step
	}
	activations := int64(rows)*int64(r.Length)*int64(r.Length)*width*s.maskedLayers(r) + tokens*s.torchActivations(r, width)
	head := s.torchHead(tokens, width, t)
	gradients := 4 * trained / kept
	if r.OneMicro {
		gradients -= activations + head
	}
	add("gradients", gradients)
	add("activations", activations)
	add("head", head)
	process, held := int64(torchContextBytes), (activations+head)*torchPoolPercent/100
	if t.shares() {
		process, held = torchProcessBytes, (activations*torchHeapPercent+head*torchHeapHeadPercent)/100
		if r.quantised() {
			process += torchQuantiserBytes
		}
	}
	add("allocator", held)
	add("PyTorch", process)
	if t.shares() {
		// While it is loaded, the model is there as a whole, beside its file unless
		// that is mapped as it is.
		loading := s.torchLoadBytes(r, weights) + process
		add("loading", loading-e.Total())
		add(furtherWorkers, int64(t.Workers-1)*e.Total())
		if t.Workers > 1 {
			add("launcher", torchLauncherBytes)
		}
		add("program", programBytes)
	}
	return e
}

// rows of a micro-batch, padding included.
func (r Run) rows() int {
	if r.Tokens > 0 && r.Length > 0 {
		return max(1, (r.Tokens+r.Length-1)/r.Length)
	}
	return max(1, r.Batch)
}

// width is how many bytes a value of the products has: a quantised base is decoded
// into what the device computes in by itself.
func (r Run) width() int64 {
	p := r.Precision
	if r.Full || r.quantised() {
		p = r.Torch.Auto
	}
	if p == "f32" {
		return 4
	}
	return 2
}

func (r Run) quantised() bool { return !r.Full && (r.Precision == "int8" || r.Precision == "int4") }

// torchBaseBytes is what the frozen weights take: bitsandbytes quantises the linear
// layers alone, int8 with a float per row, NF4 with a byte for 64 values and a float
// for 256 of those; the rest is then F32.
func (s Shape) torchBaseBytes(precision string) int64 {
	linear, rest := s.linearParameters(), s.Parameters()-s.linearParameters()
	switch precision {
	case "int8":
		var rows int64
		for _, l := range s.linears() {
			rows += l.out
		}
		return linear + 4*rows*int64(s.Layers) + 4*rest
	case "int4":
		return linear/2 + linear/64 + linear/4096 + 4*rest
	case "f32":
		return 4 * (linear + rest)
	}
	return 2 * (linear + rest)
}

// torchLoadBytes is what the model takes while the CPU loads it: its tensors, and the
// pages of its file where they are of another type.
func (s Shape) torchLoadBytes(r Run, weights int64) int64 {
	file, kept := int64(2), r.Precision
	if s.DType == "F32" {
		file = 4
	}
	if r.Full {
		kept = "f32"
	}
	if kept == map[string]string{"F32": "f32", "F16": "f16"}[s.DType] || kept == "bf16" && s.DType != "F32" && s.DType != "F16" {
		return weights
	}
	return weights + file*s.Parameters()
}

// gatheredBytes is what a worker has of the others' parts at one time: two layers, of
// which one is fetched ahead, and embedding and head.
func (s Shape) gatheredBytes(r Run) int64 {
	width := int64(4)
	if !r.Full && r.Precision != "f32" {
		width = 2
	}
	return width * (2*s.linearParameters()/int64(s.Layers) + s.embeddingParameters())
}

// maskedLayers counts the layers that keep a mask of the attention, rows x length x
// length: with rows of different lengths it is no triangle, and each keeps its own.
func (s Shape) maskedLayers(r Run) int64 {
	if r.Recompute {
		return 1
	}
	return int64(s.Layers)
}

// torchActivations counts the bytes that a token keeps for the way back.
func (s Shape) torchActivations(r Run, width int64) int64 {
	d, f := int64(s.Hidden), int64(s.Intermediate)
	q := int64(s.Heads * s.HeadDim)
	// Norms compute in F32, and keep their input; queries, keys and values with the
	// heads repeated, and what comes of them; gate, its activation and up.
	layer := 4*(2*d+s.normValues()) + width*(4*q+3*f+int64(s.Heads))
	if r.Full {
		layer += width * (3*d + f) // inputs of the products, and of the norms' weights
	}
	shared := map[int]bool{} // inputs that are kept in F32, once for their modules
	for _, l := range s.targeted(r) {
		if r.Full {
			continue
		}
		layer += width * int64(r.Rank)
		input, _ := inputOf(l.name)
		switch {
		case r.Dropout:
			layer += (width + 1) * l.in // the input that is left, and which
		case width < 4:
			layer += width * l.in // rounded for each module anew
		case !shared[input]:
			layer += width * l.in
			shared[input] = true
		}
	}
	layers := int64(s.Layers)
	if r.Recompute {
		return layer + layers*width*d
	}
	return layers*layer + 2*width*d
}

// torchHeadValues is how many logits loss.py makes at a time.
const torchHeadValues = 1 << 26

// torchHead counts the bytes of the logits: their logarithms, and the gradients of
// these and of the logits, in F32, and where products are narrower them as well. (On
// the CPU the allocator's measured share stands for these.)
func (s Shape) torchHead(tokens, width int64, t *Torch) int64 {
	v := int64(s.Vocab)
	rows := min(tokens, max(16, torchHeadValues/v))
	each := int64(12)
	if width < 4 && !t.shares() {
		each += 2 * width
	}
	return rows*v*each + 2*width*tokens*int64(s.Hidden)
}
