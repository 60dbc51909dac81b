package inference

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// bytewise decodes tokens that are bytes; broken characters become U+FFFD, as in
// tokenizers with byte tokens.
type bytewise struct{}

func (bytewise) Decode(ids []int32, _ bool) string {
	b := make([]byte, len(ids))
	for i, id := range ids {
		b[i] = byte(id)
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

func feed(s *stream, text string) (out string, stopped bool) {
	for i := range len(text) {
		piece, stop := s.add(int32(text[i]))
		out += piece
		if stop {
			return out, true
		}
	}
	return out + s.rest(), false
}

// Whatever is written comes out whole, and never with half a character.
func TestPiecesAreWholeCharactersAndTogetherTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-zé€😀 ]{0,40}`).Draw(t, "text")
		s := &stream{decoder: bytewise{}}
		var out string
		for i := range len(text) {
			piece, _ := s.add(int32(text[i]))
			if strings.ToValidUTF8(piece, "") != piece || strings.Contains(piece, "\uFFFD") {
				t.Fatalf("piece %q", piece)
			}
			out += piece
		}
		if out += s.rest(); out != text {
			t.Fatalf("%q came out of %q", out, text)
		}
	})
}

// A stop string ends the text, is not in it, and nothing of it was handed out.
func TestAStopStringEndsTheText(t *testing.T) {
	for _, c := range []struct{ text, stop, want string }{
		{"hello world", "wor", "hello "},
		{"hello", "hello", ""},
		{"a<|im_e<|im_end|>b", "<|im_end|>", "a<|im_e"},
		{"no end here", "</s>", "no end here"},
		{"ends in a beginning <|im_", "<|im_end|>", "ends in a beginning <|im_"},
		{"déjà vu", "à", "déj"},
	} {
		got, stopped := feed(&stream{decoder: bytewise{}, stops: []string{c.stop}}, c.text)
		if got != c.want || stopped != strings.Contains(c.text, c.stop) {
			t.Errorf("%q with stop %q: %q, %v", c.text, c.stop, got, stopped)
		}
	}
}

func TestAnyStopIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ab]{0,20}`).Draw(t, "text")
		stops := rapid.SliceOfN(rapid.StringMatching(`[ab]{1,4}`), 1, 3).Draw(t, "stops")
		got, stopped := feed(&stream{decoder: bytewise{}, stops: stops}, text)
		for _, stop := range stops {
			if strings.Contains(got, stop) {
				t.Fatalf("%q holds the stop %q", got, stop)
			}
		}
		if !strings.HasPrefix(text, got) || !stopped && got != text {
			t.Fatalf("%q of %q, stopped %v", got, text, stopped)
		}
	})
}
