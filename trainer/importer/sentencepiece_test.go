package importer_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/importer"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// A folder with a tokenizer.model gets a tokenizer.json, with what the other files say of
// its tokens; the import is what a job reads and an export carries.
func TestATokenizerModelBecomesATokenizerJSON(t *testing.T) {
	for kind, want := range map[string]string{"bpe": "SentencePiece BPE, ", "bpe-no-prefix": "SentencePiece BPE, ", "unigram-bytes": "SentencePiece Unigram, "} {
		s := newSource(t, "smollm", map[string]any{"vocab_size": 1000})
		s.save(s.tensors(weights.BF16))
		if err := os.Remove(filepath.Join(s.dir, "tokenizer.json")); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile("../tokenizer/sentencepiece/testdata/" + kind + ".model")
		if err != nil {
			t.Fatal(err)
		}
		s.write("tokenizer.model", raw)
		s.writeJSON("tokenizer_config.json", map[string]any{"eos_token": "</s>", "add_bos_token": false, "add_eos_token": true,
			"added_tokens_decoder": map[string]any{"950": map[string]any{"content": "<|user|>", "special": true}}})
		s.writeJSON("added_tokens.json", map[string]int{"<|user|>": 950, "<|more|>": 951})
		d, out := run(t, s.dir, importer.Options{})
		if !strings.HasPrefix(d.Tokenizer, want) || !slices.Contains(d.Notes, "tokenizer.json is made of tokenizer.model") {
			t.Errorf("%s: %q, %q", kind, d.Tokenizer, d.Notes)
		}
		tok, err := tokenizer.Load(out)
		if err != nil {
			t.Fatal(err)
		}
		ids := tok.Encode("<|user|><|more|>the mesh", true)
		if len(ids) < 4 || ids[0] != 950 || ids[1] != 951 || ids[len(ids)-1] != tok.Suffix()[0] {
			t.Errorf("%s: %v", kind, ids)
		}
		if text := tok.Decode(ids, true); text != "the mesh" {
			t.Errorf("%s: %q came back", kind, text)
		}
		// Without a tokenizer_config.json one is made.
		if err := os.Remove(filepath.Join(s.dir, "tokenizer_config.json")); err != nil {
			t.Fatal(err)
		}
		_, out = run(t, s.dir, importer.Options{})
		if _, eos, err := template.Source(out); err != nil || eos != "</s>" {
			t.Errorf("%s: eos %q, %v", kind, eos, err)
		}
	}
}

// A Unigram vocabulary goes through GGUF with its normalization: what comes back gives the
// ids of the library. What llama.cpp does otherwise than the model is refused with what it
// is, by Exportable, which jobs ask before they train.
func TestATokenizerModelThroughGGUF(t *testing.T) {
	for kind, refused := range map[string]string{
		"unigram": "", "unigram-nfkc": "",
		"bpe":             "",
		"bpe-nfkc":        "normalized by a precompiled charsmap, which llama.cpp does with Unigram vocabularies only",
		"unigram-bytes":   "spelled in bytes, which llama.cpp does not do with a Unigram vocabulary",
		"unigram-nfkc-cf": "spelled in bytes",
	} {
		s := newSource(t, "smollm", map[string]any{"vocab_size": 1000, "eos_token_id": 2})
		s.save(s.tensors(weights.BF16))
		if err := os.Remove(filepath.Join(s.dir, "tokenizer.json")); err != nil {
			t.Fatal(err)
		}
		const models = "../tokenizer/sentencepiece/testdata/"
		raw, err := os.ReadFile(models + kind + ".model")
		if err != nil {
			t.Fatal(err)
		}
		s.write("tokenizer.model", raw)
		d, out := run(t, s.dir, importer.Options{})
		err = gguf.Exportable(out)
		if refused != "" {
			if err == nil || !strings.Contains(err.Error(), refused) {
				t.Errorf("%s: %v, want %q", kind, err, refused)
			}
			if !slices.ContainsFunc(d.Warnings, func(w string) bool { return strings.Contains(w, refused) }) {
				t.Errorf("%s: the import warns of %q", kind, d.Warnings)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		file := filepath.Join(t.TempDir(), "x.gguf")
		if err := gguf.Export(context.Background(), out, file, gguf.Options{Type: "F16"}); err != nil {
			t.Fatal(err)
		}
		_, again := run(t, file, importer.Options{})
		sameIDs(t, out, again, false)
		tok, err := tokenizer.Load(again)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range vectors(t, models+kind+".vectors.json") {
			if got := tok.Encode(v.Text, false); !slices.Equal(got, v.IDs) {
				t.Errorf("%s: %q became %v, want %v", kind, v.Text, got, v.IDs)
			}
		}
	}
}

type vector struct {
	Text string
	IDs  []int32
}

func vectors(t *testing.T, path string) (out []vector) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	if err != nil || len(out) == 0 {
		t.Fatalf("%d vectors: %v", len(out), err)
	}
	return out
}
