package tokenizer_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

// charsmap builds the file's form of rules: a trie in which each node has a block of 256
// places of its own. A rule with the text "@KEY" has the children of the node of KEY below
// it instead of a text.
func charsmap(rules map[string]string) []byte {
	nodes, order := map[string]uint32{"": 256}, []string{""} // where the children of each are
	for key := range rules {
		for i := range len(key) {
			if _, ok := nodes[key[:i+1]]; !ok {
				order = append(order, key[:i+1])
				nodes[key[:i+1]] = uint32(256 * len(order))
			}
		}
	}
	units := make([]uint32, 256*(len(order)+1))
	units[0] = nodes[""] << 10
	var texts []byte
	for _, key := range order[1:] {
		at, children := nodes[key[:len(key)-1]]^uint32(key[len(key)-1]), nodes[key]
		text, has := rules[key]
		if to, link := strings.CutPrefix(text, "@"); link {
			children, has = nodes[to], false
		}
		units[at] = (at^children)<<10 | uint32(key[len(key)-1])
		if has {
			units[at] |= 1 << 8
			units[children] = 1<<31 | uint32(len(texts))
			texts = append(texts, text+"\x00"...)
		}
	}
	return blob(units, texts)
}

func blob(units []uint32, texts []byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, uint32(4*len(units)))
	for _, u := range units {
		out = binary.LittleEndian.AppendUint32(out, u)
	}
	return append(out, texts...)
}

// normalizing makes a tokenizer of nothing but bytes: what comes back of a text is the text
// as it was normalized.
func normalizing(blob []byte, match string) (func(string) string, error) {
	vocab := map[string]int{}
	for b := range 256 {
		vocab[fmt.Sprintf("<0x%02X>", b)] = b
	}
	normalizer := map[string]any{"type": "Precompiled", "precompiled_charsmap": blob}
	if match != "" {
		normalizer["match"] = match
	}
	file, err := json.Marshal(map[string]any{
		"normalizer": normalizer,
		"decoder":    map[string]any{"type": "ByteFallback"},
		"model":      map[string]any{"type": "BPE", "vocab": vocab, "merges": []string{}, "byte_fallback": true},
	})
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.Parse(file)
	if err != nil {
		return nil, err
	}
	return func(s string) string { return tok.Decode(tok.Encode(s, false), false) }, nil
}

// The rule with the longest key wins, from left to right; what a rule has made is not looked
// at again. Without the mark of SentencePiece, a short grapheme cluster is replaced as a
// whole by the rule with the shortest key, as Hugging Face's library does it.
func TestRulesOfACharsmap(t *testing.T) {
	rules := charsmap(map[string]string{
		"a": "1", "ab": "2", "abc": "", "b": "a", "Ａ": "A", "Ａ\u0308": "Ä", "A\u0308": "Ä", "\r": " ", "\n": " ", "ﷺ": "a long text", "x\u0301": "ẋ",
	})
	for _, c := range []struct{ text, longest, clusters string }{
		{"", "", ""},
		{"plain", "pl1in", "pl1in"},
		{"aab", "12", "11a"},         // no cluster is two letters
		{"abcabab", "22", "1ac1a1a"}, // nothing is a text too
		{"b", "a", "a"},              // and not 1
		{"a\x00b", "1\x00a", "1\x00a"},
		{"Ａ\u0308", "Ä", "A"},                         // the mark is lost
		{"Ａ\u0308\u0308", "Ä\u0308", "A\u0308\u0308"}, // over five bytes: character by character
		{"a\u0308x", "1\u0308x", "1x"},                // and here
		{"A\u0308", "Ä", "Ä"},                         // no rule for A alone
		{"\r\n", "  ", " "},                           // one cluster
		{"ﷺ!", "a long text!", "a long text!"},
		{"x", "x", "x"},                   // the beginning of a key
		{"x\u0301\u0302", "ẋ\u0302", "ẋ"}, // the second mark is lost
		{"日本😀", "日本😀", "日本😀"},
	} {
		for match, want := range map[string]string{tokenizer.MatchLongest: c.longest, "": c.clusters} {
			normalize, err := normalizing(rules, match)
			if err != nil {
				t.Fatal(err)
			}
			if got := normalize(c.text); got != want {
				t.Errorf("%q with match %q: got %q, want %q", c.text, match, got, want)
			}
		}
	}
}

// A key that ends within a character has no effect: text comes in characters.
func TestAKeyEndsWhereACharacterDoes(t *testing.T) {
	normalize, err := normalizing(charsmap(map[string]string{"\xc3": "x", "é": "e"}), tokenizer.MatchLongest)
	if err != nil {
		t.Fatal(err)
	}
	if got := normalize("éà"); got != "eà" {
		t.Errorf("got %q", got)
	}
}

func TestABadCharsmapIsRefused(t *testing.T) {
	good := charsmap(map[string]string{"a": "b"})
	outside := slices.Clone(good)
	for at := 4; at < len(good)-2; at += 4 { // the text's place
		if u := binary.LittleEndian.Uint32(good[at:]); u>>31 == 1 {
			binary.LittleEndian.PutUint32(outside[at:], 1<<31|77)
		}
	}
	for want, data := range map[string][]byte{
		"has 0 bytes":                      {},
		"has 3 bytes":                      good[:3],
		"trie of 3072 bytes and has 100":   good[:104],
		"trie of 2 bytes":                  append([]byte{2, 0, 0, 0}, good[4:]...),
		"a text at 77 of 2 bytes":          outside,
		"a rule at 1024 of 16 units":       blob([]uint32{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1024<<10 ^ 15<<10 | 1<<8 | 15}, nil),
		"has more than 256 bytes":          charsmap(map[string]string{"ab": "@"}), // b leads to a again
		"no UTF-8 of up to 256":            charsmap(map[string]string{"a": strings.Repeat("x", 257)}),
		"at 0 is no UTF-8":                 charsmap(map[string]string{"a": "\xff"}),
		"has 2097153 bytes, read are 4 to": make([]byte, 2<<20+1),
	} {
		if _, err := normalizing(data, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := normalizing(charsmap(map[string]string{strings.Repeat("k", 257): ""}), ""); err == nil {
		t.Error("a key of 257 bytes")
	}
	if _, err := normalizing(charsmap(map[string]string{strings.Repeat("k", 256): strings.Repeat("x", 256)}), ""); err != nil {
		t.Errorf("what is just within the bounds: %v", err)
	}
	if _, err := normalizing(good, "shortest"); err == nil || !strings.Contains(err.Error(), "shortest") {
		t.Errorf("an unknown way to match: %v", err)
	}
}

// precompiled is the charsmap of one of the tokenizers here.
func precompiled(t testing.TB) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/precompiled.tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Normalizer struct {
			Normalizers []struct {
				Charsmap []byte `json:"precompiled_charsmap"`
			}
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil || len(file.Normalizer.Normalizers) == 0 {
		t.Fatal(errors.Join(err, errors.New("no normalizers")))
	}
	return file.Normalizer.Normalizers[0].Charsmap
}

// Whatever the bytes of a charsmap, they are refused or give a normalization that makes text
// of text, within the bound.
func FuzzCharsmap(f *testing.F) {
	real := precompiled(f)
	f.Add(real, "Ａｂ e\u0301 ﬁ \u3000\r\n 한글 \U0001f469\u200d\U0001f467")
	f.Add(charsmap(map[string]string{"a": "1", "ab": "2", "é": ""}), "abé")
	rng := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		bad := slices.Clone(real)
		for range 8 {
			bad[rng.IntN(len(bad))] = byte(rng.Uint32())
		}
		f.Add(bad, "Ａｂ e\u0301")
	}
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		for _, match := range []string{"", tokenizer.MatchLongest} {
			normalize, err := normalizing(data, match)
			if err != nil {
				continue
			}
			got := normalize(text)
			if !utf8.ValidString(got) {
				t.Errorf("%q became %q", text, got)
			}
			if len(got) > 256*(len(text)+1)*3 {
				t.Errorf("%d bytes became %d", len(text), len(got))
			}
		}
	})
}

// What SentencePiece's rules have made of a text, they make of it again, nearly always: where
// a mark meets a letter that a rule has only just made, it is joined to it the second time.
// Decoding gives the normalized text, not the one that was there.
func FuzzNormalizedRoundTrip(f *testing.F) {
	normalize, err := normalizing(precompiled(f), tokenizer.MatchLongest)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"Ａ\u0308", "ﬁne \u3000 x", "e\u0301\u0302", "\x00\x01", "\r\n", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := normalize(s)
		for range 4 {
			twice := normalize(once)
			if twice == once {
				return
			}
			once = twice
		}
		t.Errorf("%q does not come to rest", s)
	})
}
