//go:build unix

package gguf_test

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// BenchmarkExport converts a model of 42 million parameters in F32. MB are those of the
// file that is read: by the clock, and by the second of processor time, which says more
// where others use the machine too.
func BenchmarkExport(b *testing.B) {
	const layers, width = 12, 512
	c, s := small(), map[string][]int{"model.embed_tokens.weight": {vocab, width}, "model.norm.weight": {width}}
	for key, value := range map[string]any{"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64} {
		c[key] = value
	}
	bytes := 4 * (vocab + 1) * width
	for l := range layers {
		for name, shape := range map[string][]int{
			"input_layernorm": {width}, "self_attn.q_proj": {width, width}, "self_attn.k_proj": {width / 2, width}, "self_attn.v_proj": {width / 2, width}, "self_attn.o_proj": {width, width},
			"mlp.gate_proj": {4 * width, width}, "mlp.up_proj": {4 * width, width}, "mlp.down_proj": {width, 4 * width}, "post_attention_layernorm": {width},
		} {
			s[fmt.Sprintf("model.layers.%d.%s.weight", l, name)] = shape
			n := 4
			for _, d := range shape {
				n *= d
			}
			bytes += n
		}
	}
	dir := folder(b, c, s, func(i int) float32 { return float32(0.04 * math.Sin(float64(i)*float64(i%97))) })
	for _, kind := range []string{"F32", "F16", "BF16", "Q8_0", "Q4_K_M"} {
		b.Run(kind, func(b *testing.B) {
			out := filepath.Join(b.TempDir(), "m.gguf")
			b.SetBytes(int64(bytes))
			before := processorSeconds(b)
			for b.Loop() {
				if err := gguf.Export(context.Background(), dir, out, gguf.Options{Type: kind}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(bytes)*float64(b.N)/1e6/(processorSeconds(b)-before), "MB/cpu-s")
		})
	}
}

func processorSeconds(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
