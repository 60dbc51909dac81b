package tokenizer_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

// vector is what the original made of one text; an absent field is the same as
// the one before it (see testdata/vectors.py).
type vector struct {
	Text    string  `json:"text"`
	IDs     []int32 `json:"ids"`
	Special []int32 `json:"special"`
	Decoded *string `json:"decoded"`
	Plain   *string `json:"plain"`

	EncodeOnly bool `json:"encode_only"`
}

// TestVectors: the ids and the decoded texts are those of the original, for every
// kind of tokenizer.json and every text. TUNEMESH_VECTORS names a folder with more
// of them, such as those of whole vocabularies.
func TestVectors(t *testing.T) {
	dir := "testdata"
	if d := os.Getenv("TUNEMESH_VECTORS"); d != "" {
		dir = d
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.vectors.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors in %s: %v", dir, err)
	}
	for _, file := range files {
		kind := strings.TrimSuffix(filepath.Base(file), ".vectors.json")
		t.Run(kind, func(t *testing.T) {
			tok, err := tokenizer.Load(filepath.Join(dir, kind+".tokenizer.json"))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var vectors []vector
			if err := json.Unmarshal(raw, &vectors); err != nil {
				t.Fatal(err)
			}
			if len(vectors) < 100 {
				t.Fatalf("only %d vectors", len(vectors))
			}
			for _, v := range vectors {
				checkVector(t, tok, v)
			}
		})
	}
}

func checkVector(t *testing.T, tok *tokenizer.Tokenizer, v vector) {
	t.Helper()
	if v.Special == nil {
		v.Special = v.IDs
	}
	if got := tok.Encode(v.Text, false); !slices.Equal(got, v.IDs) {
		t.Errorf("Encode(%q)\n got %v %q\nwant %v %q", v.Text, got, spell(tok, got), v.IDs, spell(tok, v.IDs))
	}
	if got := tok.Encode(v.Text, true); !slices.Equal(got, v.Special) {
		t.Errorf("Encode(%q) with special tokens\n got %v\nwant %v", v.Text, got, v.Special)
	}
	if v.EncodeOnly {
		return
	}
	if want := or(v.Decoded, v.Text); tok.Decode(v.Special, false) != want {
		t.Errorf("Decode(%v)\n got %q\nwant %q", v.Special, tok.Decode(v.Special, false), want)
	}
	if want := or(v.Plain, v.Text); tok.Decode(v.Special, true) != want {
		t.Errorf("Decode(%v) without special tokens\n got %q\nwant %q", v.Special, tok.Decode(v.Special, true), want)
	}
}

func or(s *string, other string) string {
	if s == nil {
		return other
	}
	return *s
}

func spell(tok *tokenizer.Tokenizer, ids []int32) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i], _ = tok.Token(id)
	}
	return out
}
