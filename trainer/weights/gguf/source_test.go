package gguf_test

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// What Source gives is what Import writes.
func TestASourceIsWhatAnImportWouldBe(t *testing.T) {
	for _, kind := range []string{"F32", "F16", "Q8_0"} {
		file := filepath.Join(t.TempDir(), "m.gguf")
		if err := gguf.Export(context.Background(), folder(t, small(), shapes(), index), file, gguf.Options{Type: kind}); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if _, err := gguf.Import(context.Background(), file, dir, gguf.ImportOptions{DType: "F32"}); err != nil {
			t.Fatal(err)
		}
		want, err := weights.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer want.Close()
		got, err := gguf.OpenSource(file)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		names, all := got.Names(), want.Names()
		slices.Sort(names)
		slices.Sort(all)
		if !slices.Equal(names, all) {
			t.Fatalf("names %v, want %v", names, all)
		}
		for _, name := range names {
			_, shape, data, err := got.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			_, wantShape, wantData, err := want.Tensor(name)
			if err != nil || !slices.Equal(shape, wantShape) || !bytes.Equal(data, wantData) {
				t.Errorf("%s, %s: other values than the import's (%v)", kind, name, err)
			}
		}
		raw, err := got.TokenizerJSON()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tokenizer.Parse(raw); err != nil {
			t.Fatal(err)
		}
	}
}
