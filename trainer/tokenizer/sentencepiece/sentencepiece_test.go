package sentencepiece_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tokenizer/sentencepiece"
)

func convert(t testing.TB, path string, o sentencepiece.Options) (*sentencepiece.Model, *tokenizer.Tokenizer) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := sentencepiece.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	file, err := m.TokenizerJSON(o)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	return m, tok
}

// The tokenizer.json gives the ids and the texts of the original library, for each kind of
// model (testdata/vectors.py). TUNEMESH_VECTORS names a folder with more.
func TestIDsAreThoseOfTheLibrary(t *testing.T) {
	dir := "testdata"
	if d := os.Getenv("TUNEMESH_VECTORS"); d != "" {
		dir = d
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.model"))
	if err != nil || len(files) == 0 {
		t.Fatal("no models")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".model"), func(t *testing.T) {
			_, tok := convert(t, file, sentencepiece.Options{})
			raw, err := os.ReadFile(strings.TrimSuffix(file, ".model") + ".vectors.json")
			if err != nil {
				t.Fatal(err)
			}
			var vectors []struct {
				Text    string
				IDs     []int32
				Decoded string
			}
			if err := json.Unmarshal(raw, &vectors); err != nil {
				t.Fatal(err)
			}
			if len(vectors) < 100 {
				t.Fatalf("only %d vectors", len(vectors))
			}
			for _, v := range vectors {
				got := tok.Encode(v.Text, false)
				if !slices.Equal(got, v.IDs) {
					t.Errorf("%q\n got %v %q\nwant %v %q", v.Text, got, tokens(tok, got), v.IDs, tokens(tok, v.IDs))
					continue
				}
				// The unknown token has a text of its own, and marks in a text are no spaces.
				if text := tok.Decode(got, true); text != v.Decoded && !slices.Contains(got, 0) && !strings.Contains(v.Text, "▁") {
					t.Errorf("%v: got %q, want %q", got, text, v.Decoded)
				}
			}
		})
	}
}

func tokens(tok *tokenizer.Tokenizer, ids []int32) (out []string) {
	for _, id := range ids {
		t, _ := tok.Token(id)
		out = append(out, t)
	}
	return out
}

func TestOptions(t *testing.T) {
	m, tok := convert(t, "testdata/bpe.model", sentencepiece.Options{AddEOS: true, Added: []tokenizer.AddedToken{{ID: 900, Content: "<|user|>", Special: true}}})
	if m.Unigram || !m.ByteFallback || !m.DummyPrefix || m.RemoveSpaces || m.BOS != 1 || m.EOS != 2 {
		t.Errorf("%+v", m.Normalizer)
	}
	ids := tok.Encode("<|user|> a", true)
	if ids[0] != m.BOS || ids[len(ids)-1] != m.EOS || ids[1] != 900 {
		t.Errorf("%v %q", ids, tokens(tok, ids))
	}
	if _, tok := convert(t, "testdata/bpe.model", sentencepiece.Options{NoBOS: true}); len(tok.Prefix()) != 0 {
		t.Error("a beginning that nobody wanted")
	}
	if _, err := m.TokenizerJSON(sentencepiece.Options{Added: []tokenizer.AddedToken{{ID: 5, Content: "other"}}}); err == nil {
		t.Error("an added token took the id of a piece")
	}
	m, _ = convert(t, "testdata/unigram-bytes.model", sentencepiece.Options{})
	if !m.Unigram || m.BOS != -1 || m.Pad != 3 {
		t.Errorf("bos %d, pad %d", m.BOS, m.Pad)
	}
}

// message builds a tokenizer.model of two pieces with settings.
func message(pieces []string, trainer, normalizer []byte) []byte {
	var out []byte
	for _, text := range pieces {
		p := protowire.AppendTag(nil, 1, protowire.BytesType)
		p = protowire.AppendString(p, text)
		out = protowire.AppendTag(out, 1, protowire.BytesType)
		out = protowire.AppendBytes(out, p)
	}
	for n, spec := range [][]byte{trainer, normalizer} {
		out = protowire.AppendTag(out, protowire.Number(n+2), protowire.BytesType)
		out = protowire.AppendBytes(out, spec)
	}
	return out
}

func setting(n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
}

func charsmap(blob []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), blob)
}

// A charsmap that cannot be read is refused with the tokenizer.json, before a model is
// imported.
func TestABrokenCharsmapIsRefused(t *testing.T) {
	m, err := sentencepiece.Read(message([]string{"a", "b"}, nil, charsmap([]byte{1, 2, 3, 4})))
	if err != nil {
		t.Fatal(err)
	}
	file, err := m.TokenizerJSON(sentencepiece.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokenizer.Parse(file); err == nil || !strings.Contains(err.Error(), "Precompiled") {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNotSupportedIsRefused(t *testing.T) {
	denormalized := message([]string{"a", "b"}, nil, nil)
	denormalized = protowire.AppendBytes(protowire.AppendTag(denormalized, 5, protowire.BytesType), charsmap([]byte{1, 2, 3, 4}))
	for want, data := range map[string][]byte{
		"no pieces":           nil,
		"not supported":       message([]string{"a", "b"}, setting(3, 2), setting(5, 0)),
		"model type 3":        message([]string{"a", "b"}, setting(3, 3), nil),
		"are both":            message([]string{"a", "a"}, nil, nil),
		"no UTF-8":            message([]string{"a", "\xff"}, nil, nil),
		"denormalized":        denormalized,
		"at the beginning of": message([]string{"a", "b"}, setting(24, 1), nil),
		"sentencepiece":       []byte("{\"json\": 1}"),
	} {
		if _, err := sentencepiece.Read(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Whatever the bytes, they are refused or become a tokenizer that works.
func FuzzRead(f *testing.F) {
	f.Add(message([]string{"<unk>", "a", "b", "ab", "\u2581"}, setting(3, 2), setting(3, 1)), "a b ab")
	f.Add(message([]string{"<unk>", "a", "b", "ab", "\u2581"}, setting(3, 1), setting(4, 0)), "a b ab")
	if normalized, err := os.ReadFile("testdata/bpe-nfkc-cf.model"); err != nil {
		f.Fatal(err)
	} else {
		f.Add(normalized, "\uff21 \ufb01\u3000e\u0301")
	}
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		m, err := sentencepiece.Read(data)
		if err != nil || len(m.Pieces) > 1000 {
			return
		}
		file, err := m.TokenizerJSON(sentencepiece.Options{})
		if err != nil {
			return
		}
		tok, err := tokenizer.Parse(file)
		if err != nil {
			return
		}
		tok.Decode(tok.Encode(text, true), false)
	})
}
