package plan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Shape is what of a decoder its memory depends on.
type Shape struct {
	Hidden, Intermediate, Layers, Heads, KVHeads, HeadDim int
	Vocab, Context                                        int
	Tied                                                  bool   // the head is the embedding
	DType                                                 string // of the stored weights: BF16, F16 or F32
	// HeadNorms and OutNorms say that queries and keys, and what a block adds, are
	// normalised (Qwen3 and Gemma 3; Gemma 3): the way back keeps the inputs.
	HeadNorms, OutNorms bool
}

// ParseShape reads the shape from a Hugging Face config.json. A file that lacks a
// size is an error: what is not known cannot be planned.
func ParseShape(data []byte) (Shape, error) {
	var c struct {
		Hidden       int    `json:"hidden_size"`
		Intermediate int    `json:"intermediate_size"`
		Layers       int    `json:"num_hidden_layers"`
		Heads        int    `json:"num_attention_heads"`
		KVHeads      int    `json:"num_key_value_heads"`
		HeadDim      int    `json:"head_dim"`
		Vocab        int    `json:"vocab_size"`
		Context      int    `json:"max_position_embeddings"`
		Tied         bool   `json:"tie_word_embeddings"`
		TorchDType   string `json:"torch_dtype"`
		DType        string `json:"dtype"` // transformers 5
		ModelType    string `json:"model_type"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return Shape{}, fmt.Errorf("plan: config.json: %w", err)
	}
	// What transformers' classes take for granted, and files may leave out.
	switch c.ModelType {
	case "qwen3":
		c.HeadDim = cmp.Or(c.HeadDim, 128)
	case "gemma3_text":
		c.HeadDim = cmp.Or(c.HeadDim, 256)
		c.Tied = c.Tied || !bytes.Contains(data, []byte(`"tie_word_embeddings"`))
	}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
	if c.Context == 0 {
		c.Context = 2048
	}
	s := Shape{Hidden: c.Hidden, Intermediate: c.Intermediate, Layers: c.Layers, Heads: c.Heads, KVHeads: c.KVHeads,
		HeadDim: c.HeadDim, Vocab: c.Vocab, Context: c.Context, Tied: c.Tied,
		HeadNorms: c.ModelType == "qwen3" || c.ModelType == "gemma3_text", OutNorms: c.ModelType == "gemma3_text"}
	switch strings.TrimPrefix(c.TorchDType+c.DType, "torch.") {
	case "float32":
		s.DType = "F32"
	case "float16":
		s.DType = "F16"
	default:
		s.DType = "BF16"
	}
	for name, n := range map[string]int{"hidden_size": s.Hidden, "intermediate_size": s.Intermediate, "num_hidden_layers": s.Layers,
		"num_attention_heads": s.Heads, "vocab_size": s.Vocab, "head_dim": s.HeadDim} {
		if n < 1 || n > 1<<22 {
			return Shape{}, fmt.Errorf("plan: config.json: %s is %d", name, n)
		}
	}
	return s, nil
}

// normValues counts what a block keeps of a token for the norms that not every
// architecture has.
func (s Shape) normValues() int64 {
	var n int64
	if s.HeadNorms {
		n += int64((s.Heads + s.KVHeads) * (s.HeadDim + 1))
	}
	if s.OutNorms {
		n += 2 * int64(s.Hidden+1)
	}
	return n
}

// linear is one projection of a block: outputs and inputs.
type linear struct {
	name    string
	out, in int64
}

// linears are the projections of one block.
func (s Shape) linears() []linear {
	d, f, q, kv := int64(s.Hidden), int64(s.Intermediate), int64(s.Heads*s.HeadDim), int64(s.KVHeads*s.HeadDim)
	return []linear{{"q_proj", q, d}, {"k_proj", kv, d}, {"v_proj", kv, d}, {"o_proj", d, q}, {"gate_proj", f, d}, {"up_proj", f, d}, {"down_proj", d, f}}
}

// inputOf says which input of a block a projection has, and its place among those that
// have the same.
func inputOf(projection string) (input, place int) {
	for input, names := range [][]string{{"q_proj", "k_proj", "v_proj"}, {"o_proj"}, {"gate_proj", "up_proj"}, {"down_proj"}} {
		if place := slices.Index(names, projection); place >= 0 {
			return input, place
		}
	}
	panic("plan: a block has no projection " + projection)
}

// linearParameters are those of all projections, embeddingParameters those of
// embedding and head.
func (s Shape) linearParameters() int64 {
	var n int64
	for _, l := range s.linears() {
		n += l.out * l.in
	}
	return n * int64(s.Layers)
}

func (s Shape) embeddingParameters() int64 {
	n := int64(s.Vocab) * int64(s.Hidden)
	if !s.Tied {
		n *= 2
	}
	return n
}

// Parameters is the number of weights; biases, which few models have, are left
// out.
func (s Shape) Parameters() int64 {
	return s.linearParameters() + s.embeddingParameters() + int64(2*s.Layers+1)*int64(s.Hidden)
}
