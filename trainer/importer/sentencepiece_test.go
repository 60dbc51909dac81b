package importer_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/importer"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/weights"
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
