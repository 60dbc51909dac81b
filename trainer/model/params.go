package model

import (
	"fmt"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// AddLoRA freezes the weights and adds adapters: A uniform as PEFT initialises
// it (kaiming with a = √5, i.e. ±1/√in), B zero, so that the model computes the
// same as before until the first update.
func (m *Model) AddLoRA(cfg LoRAConfig, seed uint64) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if len(m.params) > 0 {
		return fmt.Errorf("model: AddLoRA on a model that already has trainable tensors")
	}
	targets, err := cfg.targets()
	if err != nil {
		return err
	}
	rng := loraRand(seed)
	for l := range m.blocks {
		for w := range m.blocks[l].lin {
			if !targets[w] {
				continue
			}
			lin := &m.blocks[l].lin[w]
			lin.a, lin.b = newLoRA(rng, cfg.Rank, l, w, lin.out, lin.in)
			m.params = append(m.params, lin.a, lin.b)
		}
	}
	cfg.TargetModules = append([]string(nil), cfg.TargetModules...)
	m.lora, m.loraSeed = &cfg, seed
	return nil
}

// LoRA returns the adapters' configuration, or nil.
func (m *Model) LoRA() *LoRAConfig { return m.lora }

// TrainAll makes every weight trainable, embeddings and norms included, in
// float32. A tied head has one parameter, the embedding.
func (m *Model) TrainAll() error {
	if len(m.params) > 0 {
		return fmt.Errorf("model: TrainAll on a model that already has trainable tensors")
	}
	for _, b := range m.blocks {
		if b.lin[qProj].w.q != nil {
			return fmt.Errorf("model: TrainAll on quantized weights: codes cannot be trained, only adapters on them")
		}
	}
	tied := m.cfg.TieWordEmbeddings
	m.embed, m.embedG = m.trainTensor(embedName, m.embed, m.cfg.VocabSize, m.cfg.HiddenSize)
	for l := range m.blocks {
		b := &m.blocks[l]
		m.trainNorm(m.arch.normPath(l, attnNorm), &b.norms[attnNorm])
		for w := range b.lin {
			lin := &b.lin[w]
			lin.w, lin.grad = m.trainTensor(linearPath(l, w)+".weight", lin.w, lin.out, lin.in)
			if lin.bias != nil {
				lin.biasGrad = m.trainVector(linearPath(l, w)+".bias", lin.bias)
			}
		}
		for n := attnNorm + 1; n < numNorms; n++ {
			m.trainNorm(m.arch.normPath(l, n), &b.norms[n])
		}
	}
	m.trainNorm(normName, &m.norm)
	if tied {
		m.head, m.headG = m.embed, m.embedG
		return nil
	}
	m.head, m.headG = m.trainTensor(headName, m.head, m.cfg.VocabSize, m.cfg.HiddenSize)
	return nil
}

func (m *Model) trainTensor(name string, w weights, shape ...int) (weights, []float32) {
	p := &Param{Name: name, Shape: shape, Data: w.float32s(), Grad: make([]float32, w.len())}
	m.params = append(m.params, p)
	return weights{f32: p.Data}, p.Grad
}

func (m *Model) trainNorm(name string, n *norm) {
	if n.there() {
		n.grad = m.trainVector(name, n.weight)
	}
}

func (m *Model) trainVector(name string, data []float32) (grad []float32) {
	p := &Param{Name: name, Shape: []int{len(data)}, Data: data, Grad: make([]float32, len(data)), Norm: true}
	m.params = append(m.params, p)
	return p.Grad
}

func newParam(name string, shape ...int) *Param {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return &Param{Name: name, Shape: shape, Data: make([]float32, n), Grad: make([]float32, n)}
}

// Params returns the trainable tensors in a stable order (by layer, then in the
// order of the forward pass, A before B).
func (m *Model) Params() []*Param { return m.params }

// ZeroGrad sets all gradients to zero.
func (m *Model) ZeroGrad() {
	for _, p := range m.params {
		clear(p.Grad)
	}
}

// MergedTensor returns a tensor of the checkpoint (a name from Config.Tensors)
// as float32, with its adapter folded in: W + s·B·A. Unchanged float32 tensors
// are returned without a copy and must not be written to.
func (m *Model) MergedTensor(name string) (shape []int, data []float32, err error) {
	for _, spec := range m.cfg.Tensors() {
		if spec.Name == name {
			return spec.Shape, m.merged(spec), nil
		}
	}
	return nil, nil, fmt.Errorf("model: no tensor %s in this model", name)
}

func (m *Model) merged(spec TensorSpec) []float32 {
	switch spec.Name {
	case embedName:
		return m.embed.float32s()
	case headName:
		return m.head.float32s()
	case normName:
		return m.norm.weight
	}
	for l := range m.blocks {
		b := &m.blocks[l]
		for n := range b.norms {
			if spec.Name == m.arch.normPath(l, n) {
				return b.norms[n].weight
			}
		}
		for w := range b.lin {
			switch spec.Name {
			case linearPath(l, w) + ".weight":
				return m.mergeLinear(&b.lin[w])
			case linearPath(l, w) + ".bias":
				return b.lin[w].bias
			}
		}
	}
	return nil
}

// mergeLinear computes W + s·B·A.
func (m *Model) mergeLinear(lin *linear) []float32 {
	w := lin.w.float32s()
	if lin.a == nil {
		return w
	}
	out := append([]float32(nil), w...)
	r := m.lora.Rank
	for o := range lin.out {
		kernel.MergeRow(out[o*lin.in:(o+1)*lin.in], lin.b.Data[o*r:(o+1)*r], lin.a.Data, m.lora.Scale())
	}
	return out
}

func isResidual(name string) bool {
	return strings.HasSuffix(name, "o_proj.weight") || strings.HasSuffix(name, "down_proj.weight")
}

func isBias(name string) bool { return strings.HasSuffix(name, ".bias") }
