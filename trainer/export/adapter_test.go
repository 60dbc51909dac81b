package export

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// A GGUF adapter is put over the base model again, and what does not make the tuned model
// of it fails the stage; so does what is off by too little for the logits to show.
func TestABrokenAdapterFileIsRefused(t *testing.T) {
	const a, b = "blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b"
	const row = 4 * 4 // bytes of a row of B: rank 4, F32
	alpha := func(factor float32) func(any) any { return func(v any) any { return v.(float32) * factor } }
	swapped := func(pairs ...string) func(string) string { return strings.NewReplacer(pairs...).Replace }
	dir, p, files := exported(t, true) // the scale is alpha/√r there, which a file of llama.cpp's cannot say
	for name, c := range map[string]struct {
		damage
		words string // "": it passes
	}{
		"as it is":            {},
		"twice the alpha":     {damage{metadata: value("adapter.lora.alpha", alpha(2))}, "does not compute what was trained"},
		"alpha as in PEFT":    {damage{metadata: value("adapter.lora.alpha", func(any) any { return float32(8) })}, "does not compute what was trained"},
		"a little more alpha": {damage{metadata: value("adapter.lora.alpha", alpha(1.0001))}, "scales its matrices by"},
		"alpha is no float":   {damage{metadata: value("adapter.lora.alpha", func(any) any { return "8" })}, "adapter.lora.alpha is 8"},
		"A and B change":      {damage{name: swapped("lora_a", "lora_b", "lora_b", "lora_a")}, "does not fit"},
		"two modules change":  {damage{name: swapped("attn_q", "attn_output", "attn_output", "attn_q")}, "does not compute what was trained"},
		"two layers change":   {damage{name: swapped("blk.0.", "blk.1.", "blk.1.", "blk.0.")}, "does not compute what was trained"},
		"a layer too many":    {damage{name: swapped("blk.1.", "blk.2.")}, "blk.2.attn_k.weight.lora_a adapts no linear layer of the 2 layers"},
		"another name":        {damage{name: swapped("ffn_up", "ffn_upward")}, "adapts no linear layer"},
		"rows as in PEFT": {damage{data: tensor(b, func(data []byte) { // of two heads, not permuted
			from, head := append([]byte(nil), data...), len(data)/2
			for r := range head / row {
				to := r%2*(head/row/2) + r/2
				for h := range 2 {
					copy(data[h*head+to*row:][:row], from[h*head+r*row:])
				}
			}
		})}, "does not compute what was trained"},
		"two rows change":     {damage{data: tensor("blk.1.ffn_up.weight.lora_b", func(data []byte) { copy(data[:row], data[row:2*row]) })}, "does not compute what was trained"},
		"the last bit of one": {damage{data: tensor(a, func(data []byte) { data[0] ^= 1 })}, "model.layers.0.self_attn.q_proj.lora_A.weight, row 0"},
		"not a number":        {damage{data: tensor(a, func(data []byte) { binary.LittleEndian.PutUint32(data, math.Float32bits(float32(math.NaN()))) })}, "NaN"},
		"another model's":     {damage{metadata: value("general.architecture", func(any) any { return "qwen2" })}, "general.architecture is qwen2, want llama"},
		"a whole model":       {damage{metadata: value("general.type", func(any) any { return "model" })}, "general.type is model"},
	} {
		t.Run(name, func(t *testing.T) {
			path := rewrite(t, filepath.Join(dir, "job_adapter.gguf"), c.damage)
			drift, err := p.adapter(context.Background(), path, files)
			var fault *contract.Error
			switch {
			case c.words == "" && (err != nil || drift.Positions < 8 || drift.MaxDelta > 1e-4):
				t.Errorf("parity %+v: %v", drift, err)
			case c.words != "" && (!errors.As(err, &fault) || fault.Code != "EXPORT_DIFFERS" || !strings.Contains(fault.Message, c.words) || !strings.Contains(fault.Message, "job_adapter.gguf")):
				t.Errorf("%v, want %q", err, c.words)
			}
		})
	}
	t.Run("truncated", func(t *testing.T) {
		if _, err := p.adapter(context.Background(), truncated(t, filepath.Join(dir, "job_adapter.gguf")), files); err == nil || !strings.Contains(err.Error(), "cannot be read again") {
			t.Errorf("%v", err)
		}
	})
}
