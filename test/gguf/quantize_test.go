package judge_test

import (
	"bytes"
	"io"
	"path/filepath"
	"slices"
	"testing"

	judge "github.com/tunemesh/tunemesh/test/gguf"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// What we write as Q4_K_M and Q8_0 is what llama.cpp makes of our F32 file with its
// own quantizer: the same format for every tensor, the same bytes.
func TestQuantizesAsLlamaCpp(t *testing.T) {
	j := judge.New(t)
	raw := trained(t)
	tok, err := tokenizer.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	// Nine layers show each case of the mix; 256 fills blocks, 96 and 160 do not.
	full := tiny(tok.VocabSize()).with("num_hidden_layers", 9).with("hidden_size", 256).with("intermediate_size", 512).
		with("num_attention_heads", 8).with("num_key_value_heads", 4)
	odd := tiny(tok.VocabSize()).with("num_hidden_layers", 9)
	for name, config := range map[string]llama{
		"tied": full, "untied": full.with("tie_word_embeddings", false), "rows of 96 and 160": odd,
		"rows of 288 and 512": full.with("hidden_size", 288).with("tie_word_embeddings", false), // 288 falls back, 512 does not
		"rows of 100":         full.with("hidden_size", 100),                                    // to F16
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, config, raw, weights.F32)
			exact := export(t, dir, "F32")
			for kind, ftype := range map[string]int{"Q4_K_M": 15, "Q8_0": 7} {
				theirs := filepath.Join(t.TempDir(), "theirs.gguf")
				j.Quantize(t, exact, theirs, ftype)
				sameTensors(t, kind, export(t, dir, kind), theirs)
			}
		})
	}
}

func sameTensors(t *testing.T, kind, ours, theirs string) {
	t.Helper()
	a, err := gguf.Open(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := gguf.Open(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if len(a.Tensors()) != len(b.Tensors()) {
		t.Fatalf("%s: %d tensors, llama.cpp has %d", kind, len(a.Tensors()), len(b.Tensors()))
	}
	for _, info := range b.Tensors() {
		own, ok := a.Tensor(info.Name)
		if !ok || own.Type != info.Type || !slices.Equal(own.Shape, info.Shape) {
			t.Errorf("%s: %s is %v %v, llama.cpp has %v %v", kind, info.Name, own.Type, own.Shape, info.Type, info.Shape)
			continue
		}
		if x, y := content(t, a, info.Name), content(t, b, info.Name); !bytes.Equal(x, y) {
			t.Errorf("%s: %s (%s) has other bytes than llama.cpp's", kind, info.Name, info.Type)
		}
	}
	x, _ := a.Value("general.file_type")
	y, _ := b.Value("general.file_type")
	if x != y {
		t.Errorf("%s: file type %v, llama.cpp has %v", kind, x, y)
	}
	types := a.Types()
	t.Logf("%s: %v", kind, types)
}

func content(t *testing.T, f *gguf.File, name string) []byte {
	t.Helper()
	r, err := f.Data(name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
