package tokenizer_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

// slow loads a tokenizer with change in its file, which means the same but is none of the
// short cuts.
func slow(t *testing.T, kind string, change func(file map[string]any)) *tokenizer.Tokenizer {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", kind+".tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	change(file)
	if raw, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// What is cut by hand gives the ids of what the expressions and components give.
func TestShortCutsChangeNoID(t *testing.T) {
	inGroup := func(file map[string]any) {
		first := file["pre_tokenizer"].(map[string]any)["pretokenizers"].([]any)[0].(map[string]any)["pattern"].(map[string]any)
		first["Regex"] = "(?:" + first["Regex"].(string) + ")"
	}
	nested := func(file map[string]any) {
		file["pre_tokenizer"] = map[string]any{"type": "Sequence", "pretokenizers": []any{map[string]any{"type": "Sequence", "pretokenizers": []any{file["pre_tokenizer"]}}}}
	}
	never := func(file map[string]any) { // merges over every mark, of tokens that no text becomes
		model := file["model"].(map[string]any)
		vocab := model["vocab"].(map[string]any)
		id := 4000
		for token := range maps.Clone(vocab) {
			if utf8.RuneCountInString(token) == 1 && token != "▁" {
				vocab["\U0010fffe"+token], vocab["\U0010fffe"+token+"▁"] = id, id+1
				model["merges"] = append(model["merges"].([]any), []any{"\U0010fffe" + token, "▁"})
				id += 2
			}
		}
	}
	alphabet := []rune("'sStTrReEvVlLmMdD  \n\r\t\u00a0\u3000\u0085aéΣſK漢١Ⅷ½09_-!.,😀\u0301\u200d▁")
	for kind, change := range map[string]func(map[string]any){"llama3": inGroup, "qwen2": inGroup, "gpt2": nested, "smollm": nested, "llama2": never} {
		t.Run(kind, func(t *testing.T) {
			quick, plain := load(t, kind), slow(t, kind, change)
			rapid.Check(t, func(rt *rapid.T) {
				s := rapid.OneOf(rapid.StringOf(rapid.SampledFrom(alphabet)), rapid.String(), rapid.StringMatching(`([a-zA-Z']{1,6}[ ,.\n]{0,3}){0,20}`)).Draw(rt, "s")
				if got, want := quick.Encode(s, true), plain.Encode(s, true); !slices.Equal(got, want) {
					rt.Fatalf("%q:\n got %q\nwant %q", s, spell(quick, got), spell(plain, want))
				}
			})
		})
	}
}

func TestAppendEncodeAppends(t *testing.T) {
	tok := load(t, "llama3")
	before := []int32{7, 8}
	got := tok.AppendEncode(before, "the mesh", true)
	if !slices.Equal(got, append([]int32{7, 8}, tok.Encode("the mesh", true)...)) {
		t.Errorf("%v", got)
	}
	buffer := make([]int32, 0, 64)
	text := strings.Repeat("the mesh ", 5)
	tok.AppendEncode(buffer, text, false)
	if n := testing.AllocsPerRun(100, func() { tok.AppendEncode(buffer, text, false) }); n > 0 {
		t.Errorf("%v allocations for a text of known words", n)
	}
}
