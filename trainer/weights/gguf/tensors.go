package gguf

import (
	"fmt"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// job is one tensor of an export: where it comes from and what it becomes.
type job struct {
	info    TensorInfo
	source  string    // the tensor's name in the safetensors
	heads   int       // > 0: its rows are permuted, in this many heads
	plus    float32   // added to every value
	literal []float32 // instead of a source
}

// jobs lists the tensors in llama.cpp's order of names, each checked against the
// config.
func (c modelConfig) jobs(src *weights.File, formats mix) ([]job, error) {
	var out []job
	var firstErr error
	used := map[string]bool{}
	add := func(name, source string, heads int, optional bool, shape ...int) {
		info, ok := src.Info(source)
		used[source] = true
		switch {
		case firstErr != nil || !ok && optional:
			return
		case !ok:
			firstErr = fmt.Errorf("tensor %s is missing", source)
			return
		case !slices.Equal(info.Shape, shape):
			firstErr = fmt.Errorf("tensor %s has shape %v, but config.json asks for %v", source, info.Shape, shape)
			return
		}
		out = append(out, job{info: TensorInfo{Name: name, Type: formats.typeOf(name, shape), Shape: shape}, source: source, heads: heads})
	}
	norm := func(name, source string, size int) {
		before := len(out)
		if add(name, source, 0, false, size); len(out) > before && c.family.plusOne {
			out[before].plus = 1
		}
	}
	add("token_embd.weight", "model.embed_tokens.weight", 0, false, c.VocabSize, c.HiddenSize)
	if f := c.ropeFactors(); f != nil {
		out = append(out, job{info: TensorInfo{Name: "rope_freqs.weight", Type: F32, Shape: []int{len(f)}}, literal: f})
	}
	for l := range c.Layers {
		blk, from := fmt.Sprintf("blk.%d.", l), fmt.Sprintf("model.layers.%d.", l)
		norms := c.family.norms
		norm(blk+norms[0].name+".weight", from+norms[0].source+".weight", c.HiddenSize)
		for _, p := range c.projections() {
			add(blk+p.name+".weight", from+p.source+".weight", p.heads, false, p.out, p.in)
			add(blk+p.name+".bias", from+p.source+".bias", p.heads, !p.biased, p.out)
		}
		for _, n := range norms[1:] {
			norm(blk+n.name+".weight", from+n.source+".weight", c.normSize(n))
		}
		used[from+"self_attn.rotary_emb.inv_freq"] = true // a table that llama.cpp computes
	}
	norm("output_norm.weight", "model.norm.weight", c.HiddenSize)
	if !c.Tied {
		add("output.weight", "lm_head.weight", 0, false, c.VocabSize, c.HiddenSize)
	}
	used["lm_head.weight"] = true // of a tied model, the embedding once more
	if firstErr != nil {
		return nil, firstErr
	}
	for _, name := range src.Names() {
		if !used[name] {
			return nil, fmt.Errorf("tensor %s has no place in llama.cpp's architecture %s", name, c.family.name)
		}
	}
	return out, nil
}

// projection is one of a block's linear layers: its name here and there, the heads in
// which its rows are permuted (0: not at all) and its dimensions.
type projection struct {
	name, source string
	heads        int
	out, in      int
	biased       bool
}

// normSize is the number of values that a norm covers.
func (c modelConfig) normSize(n normName) int {
	if n.ofHeads {
		return c.HeadDim
	}
	return c.HiddenSize
}

func (c modelConfig) projections() []projection {
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	heads, kvHeads := 0, 0
	if c.family.permuted {
		heads, kvHeads = c.Heads, c.KVHeads
	}
	b := c.family.biased
	return []projection{
		{"attn_q", "self_attn.q_proj", heads, q, c.HiddenSize, b},
		{"attn_k", "self_attn.k_proj", kvHeads, kv, c.HiddenSize, b},
		{"attn_v", "self_attn.v_proj", 0, kv, c.HiddenSize, b},
		{"attn_output", "self_attn.o_proj", 0, c.HiddenSize, q, false},
		{"ffn_gate", "mlp.gate_proj", 0, c.IntermediateSize, c.HiddenSize, false},
		{"ffn_up", "mlp.up_proj", 0, c.IntermediateSize, c.HiddenSize, false},
		{"ffn_down", "mlp.down_proj", 0, c.HiddenSize, c.IntermediateSize, false},
	}
}

// permutedRow gives the row of a Hugging Face q or k projection that stands at row
// out in llama.cpp's. Hugging Face rotates dimension j of a head with j + dim/2,
// llama.cpp's llama architecture 2j with 2j+1 (permute in llama.cpp's
// conversion/llama.py).
func permutedRow(out, rows, heads int) int {
	dim := rows / heads
	head, j := out/dim, out%dim
	return head*dim + j%2*(dim/2) + j/2
}
