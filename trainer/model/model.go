package model

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// Param is one trainable tensor. The optimiser updates Data in place and reads
// Grad, to which LossAndGrad adds.
type Param struct {
	// Name is Hugging Face's for weights ("model.norm.weight") and PEFT's for
	// adapters ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight").
	Name  string
	Shape []int
	Data  []float32
	Grad  []float32
	// Norm says that this is the gain of a norm or a bias, which are not decayed.
	Norm bool
}

// linear is one projection, y = W·x + bias + s·B·A·x.
type linear struct {
	out, in  int
	w        weights
	bias     []float32 // nil without one
	grad     []float32 // nil while W is frozen
	biasGrad []float32
	a, b     *Param // nil without an adapter: A is [rank, in], B is [out, rank]
}

// norm is one RMSNorm; the zero value is none.
type norm struct {
	weight  []float32
	grad    []float32 // nil while frozen
	plusOne bool
	sum     []float32 // 1 + weight, if plusOne
}

func (n *norm) there() bool { return n.weight != nil }

// gain is what the norm multiplies by. It is computed anew each time: weights change
// in training, and a row of them is nothing beside the rows it is applied to.
func (n *norm) gain() []float32 {
	if !n.plusOne {
		return n.weight
	}
	for i, w := range n.weight {
		n.sum[i] = 1 + w
	}
	return n.sum
}

// block is one decoder layer.
type block struct {
	norms [numNorms]norm
	lin   [numLinears]linear
	heads kernel.Heads
	rope  *ropeTable
}

// Model is a decoder with its weights and, once asked for, adapters or
// gradients. It is not safe for concurrent use; it uses all processors itself.
type Model struct {
	cfg      Config
	eng      *kernel.Engine
	embed    weights
	embedG   []float32
	blocks   []block
	norm     norm
	head     weights // equal to embed when tied
	headG    []float32
	params   []*Param
	lora     *LoRAConfig
	arch     architecture
	ropes    []*ropeTable
	step     uint64
	loraSeed uint64
	recomp   bool
	rounds   bool
	work     workspace
}

// Load builds a model from a checkpoint. Every tensor that the config asks for
// must be there in its exact shape; tensors it does not know are refused, but
// for a redundant lm_head of tied models and rotary caches.
func Load(cfg Config, src Source) (*Model, error) { return LoadAs(cfg, src, Stored) }

// LoadAs is Load with the base's weights in another precision.
func LoadAs(cfg Config, src Source, p Precision) (*Model, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	known := map[string]bool{headName: cfg.TieWordEmbeddings}
	got, slab := map[string]weights{}, &kernel.Slab{}
	for _, spec := range cfg.Tensors() {
		w, err := readTensor(src, spec)
		if err != nil {
			return nil, err
		}
		got[spec.Name] = p.convert(spec, w, slab)
		if r, ok := src.(Releaser); ok && !got[spec.Name].aliases(w) {
			r.Release(spec.Name)
		}
		known[spec.Name] = true
	}
	for l := range cfg.NumLayers {
		known[fmt.Sprintf("model.layers.%d.self_attn.rotary_emb.inv_freq", l)] = true
	}
	for _, name := range src.Names() {
		if !known[name] {
			return nil, fmt.Errorf("model: the checkpoint holds %s, which %s with this config.json does not have", name, cfg.arch().name)
		}
	}
	return build(cfg, got), nil
}

// NewRandom makes an untrained model, float32 throughout: normal weights of
// deviation 0.02 (those that write to the residual stream scaled by
// 1/√(2·layers), as in GPT-2), gains of one, no biases.
func NewRandom(cfg Config, seed uint64) (*Model, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 0x74756e656d657368))
	got := map[string]weights{}
	one := float32(1)
	if cfg.arch().plusOne {
		one = 0
	}
	for _, spec := range cfg.Tensors() {
		w := make([]float32, spec.Len())
		std := 0.02
		if isResidual(spec.Name) {
			std /= math.Sqrt(2 * float64(cfg.NumLayers))
		}
		for i := range w {
			switch {
			case isBias(spec.Name):
			case len(spec.Shape) == 1:
				w[i] = one
			default:
				w[i] = float32(rng.NormFloat64() * std)
			}
		}
		got[spec.Name] = weights{f32: w}
	}
	return build(cfg, got), nil
}

func build(cfg Config, got map[string]weights) *Model {
	m := &Model{cfg: cfg, arch: cfg.arch(), eng: kernel.New(kernel.Best())}
	global, local := cfg.ropeTables()
	m.ropes = []*ropeTable{global}
	if local != nil {
		m.ropes = append(m.ropes, local)
	}
	m.embed = got[embedName]
	m.head = m.embed
	if !cfg.TieWordEmbeddings {
		m.head = got[headName]
	}
	newNorm := func(name string) norm {
		if name == "" {
			return norm{}
		}
		n := norm{weight: got[name].float32s(), plusOne: m.arch.plusOne}
		if n.plusOne {
			n.sum = make([]float32, len(n.weight))
		}
		return n
	}
	m.norm = newNorm(normName)
	m.blocks = make([]block, cfg.NumLayers)
	for l := range m.blocks {
		b := &m.blocks[l]
		b.heads = kernel.Heads{Q: cfg.NumHeads, KV: cfg.NumKVHeads, Dim: cfg.HeadDim, Window: cfg.window(l)}
		if cfg.QueryScalar > 0 {
			b.heads.Scale = 1 / math.Sqrt(cfg.QueryScalar)
		}
		if b.rope = global; cfg.local(l) {
			b.rope = local
		}
		for n := range b.norms {
			b.norms[n] = newNorm(m.arch.normPath(l, n))
		}
		for w := range b.lin {
			out, in := cfg.linearShape(w)
			b.lin[w] = linear{out: out, in: in, w: got[linearPath(l, w)+".weight"]}
			if m.arch.biased[w] {
				b.lin[w].bias = got[linearPath(l, w)+".bias"].float32s()
			}
		}
	}
	return m
}

// Config returns the model's shape.
func (m *Model) Config() Config { return m.cfg }

// SetEngine replaces the kernels, e.g. by the pure-Go ones.
func (m *Model) SetEngine(e *kernel.Engine) { m.eng = e }

// Kernels names the inner loops in use ("avx512", "avx2", "pure-go"), for a log.
func (m *Model) Kernels() string { return m.eng.ISA().String() }

// SetRecompute makes LossAndGrad keep only each layer's input and compute the
// rest again on the way back: about a third more work for a fraction of the
// memory. The results are the same bits.
func (m *Model) SetRecompute(on bool) { m.recomp = on }

// SetRounding makes the products with frozen weights that lie in memory as
// bfloat16 round their other operand, activations and their gradients, to
// bfloat16 (kernel.Term.Round): on a processor with AVX512_BF16 they take half the
// time. Sums, adapters, attention, norms and the loss stay float32, and so does a
// Session.
func (m *Model) SetRounding(on bool) { m.rounds = on }

func (m *Model) roundsFor(w weights) bool { return m.rounds && w.bf16 != nil }

// SetStep numbers the next call of LossAndGrad for the random choices of LoRA
// dropout. Callers give every micro-batch its own number, and the same number
// after a resume.
func (m *Model) SetStep(step uint64) { m.step = step }
