package model

import "fmt"

// TensorSpec names one tensor of a checkpoint and its shape.
type TensorSpec struct {
	Name  string
	Shape []int
}

// Len returns the number of elements.
func (t TensorSpec) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// The linear layers of a decoder block, in the order of the forward pass. Their
// names are those of Hugging Face's modeling_llama.py and PEFT's target_modules.
const (
	qProj = iota
	kProj
	vProj
	oProj
	gateProj
	upProj
	downProj
	numLinears
)

var linearNames = [numLinears]string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

// linearPath returns a linear layer's module path, e.g.
// "model.layers.3.self_attn.q_proj".
func linearPath(layer, which int) string {
	block := "self_attn"
	if which >= gateProj {
		block = "mlp"
	}
	return fmt.Sprintf("model.layers.%d.%s.%s", layer, block, linearNames[which])
}

// linearShape returns the numbers of outputs and inputs; a weight is [out, in].
func (c Config) linearShape(which int) (out, in int) {
	switch which {
	case qProj:
		return c.NumHeads * c.HeadDim, c.HiddenSize
	case kProj, vProj:
		return c.NumKVHeads * c.HeadDim, c.HiddenSize
	case oProj:
		return c.HiddenSize, c.NumHeads * c.HeadDim
	case gateProj, upProj:
		return c.IntermediateSize, c.HiddenSize
	}
	return c.HiddenSize, c.IntermediateSize
}

const (
	embedName = "model.embed_tokens.weight"
	normName  = "model.norm.weight"
	headName  = "lm_head.weight"
)

// normPath names a norm of a layer; "" if the architecture has none there.
func (a architecture) normPath(layer, which int) string {
	if a.norms[which] == "" {
		return ""
	}
	return fmt.Sprintf("model.layers.%d.%s.weight", layer, a.norms[which])
}

// normSize is the number of values that a norm covers.
func (c Config) normSize(which int) int {
	if which == qNorm || which == kNorm {
		return c.HeadDim
	}
	return c.HiddenSize
}

// Tensors lists the tensors of a checkpoint of this shape, with Hugging Face's
// names, in a fixed order. lm_head.weight is left out when it is tied to the
// embedding.
func (c Config) Tensors() []TensorSpec {
	a := c.arch()
	specs := []TensorSpec{{embedName, []int{c.VocabSize, c.HiddenSize}}}
	for l := range c.NumLayers {
		specs = append(specs, TensorSpec{a.normPath(l, attnNorm), []int{c.HiddenSize}})
		for w := range numLinears {
			out, in := c.linearShape(w)
			specs = append(specs, TensorSpec{linearPath(l, w) + ".weight", []int{out, in}})
			if a.biased[w] {
				specs = append(specs, TensorSpec{linearPath(l, w) + ".bias", []int{out}})
			}
		}
		for n := attnNorm + 1; n < numNorms; n++ {
			if name := a.normPath(l, n); name != "" {
				specs = append(specs, TensorSpec{name, []int{c.normSize(n)}})
			}
		}
	}
	specs = append(specs, TensorSpec{normName, []int{c.HiddenSize}})
	if !c.TieWordEmbeddings {
		specs = append(specs, TensorSpec{headName, []int{c.VocabSize, c.HiddenSize}})
	}
	return specs
}

// NumParams returns the number of weights.
func (c Config) NumParams() int64 {
	var n int64
	for _, t := range c.Tensors() {
		n += int64(t.Len())
	}
	return n
}
