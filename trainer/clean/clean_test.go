package clean_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/clean"
)

func TestLineAndText(t *testing.T) {
	for _, c := range []struct{ in, line, text string }{
		{"hello world", "hello world", "hello world"},
		{"  a \t b\u00a0 c  ", "a b c", "a b c"},
		{"a\r\n\r\n\r\n\nb  \n  c\n", "a b c", "a\n\nb\n  c"},
		{"Gru\u0308\u00dfe \U0001F469\u200d\U0001F4BB", "Gr\u00fc\u00dfe \U0001F469\u200d\U0001F4BB", "Gr\u00fc\u00dfe \U0001F469\u200d\U0001F4BB"},
		{"\ufeffze\u200bro\u0007", "zero", "zero"},
		{" \n\t", "", ""},
	} {
		if got := clean.Line(c.in); got != c.line {
			t.Errorf("Line(%q) = %q, want %q", c.in, got, c.line)
		}
		if got := clean.Text(c.in); got != c.text {
			t.Errorf("Text(%q) = %q, want %q", c.in, got, c.text)
		}
	}
}

func TestCleaningTwiceIsCleaningOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOf(rapid.SampledFrom([]rune("ab \t\r\nü\u0308\u200b\u00a0😀A_-"))).Draw(t, "text")
		for name, f := range map[string]func(string) string{"Line": clean.Line, "Text": clean.Text, "Fold": clean.Fold, "LabelKey": clean.LabelKey} {
			once := f(s)
			if twice := f(once); twice != once {
				t.Fatalf("%s(%q) = %q, then %q", name, s, once, twice)
			}
			if !utf8.ValidString(once) || once != strings.TrimSpace(once) {
				t.Fatalf("%s(%q) = %q", name, s, once)
			}
		}
	})
}

func TestSpellingsOfOneLabelHaveOneKey(t *testing.T) {
	for _, s := range []string{"Feature Request", " feature_request ", "FEATURE-REQUEST", "feature  request"} {
		if got := clean.LabelKey(s); got != "feature request" {
			t.Errorf("LabelKey(%q) = %q", s, got)
		}
	}
	if clean.LabelKey("-") != "" || clean.LabelKey("c++") == clean.LabelKey("c") {
		t.Error("keys lose what tells labels apart")
	}
}

func TestPointsAreSpreadEvenlyAndDependOnTheSeed(t *testing.T) {
	low, same := 0, 0
	const n = 20_000
	for i := range n {
		s := clean.Hash(strings.Repeat("x", i%97), string(rune('a'+i%26)), strings.Repeat("y", i/97))
		a, b := s.Point(42), s.Point(43)
		if a < 1<<62 {
			low++
			if b < 1<<62 {
				same++
			}
		}
	}
	if low < n/4-500 || low > n/4+500 {
		t.Errorf("%d of %d points lie in the first quarter", low, n)
	}
	if same < n/16-400 || same > n/16+400 {
		t.Errorf("%d lie there with both seeds, want about %d: the seeds do not mix", same, n/16)
	}
}

func BenchmarkLineAndHash(b *testing.B) {
	for _, c := range []struct{ name, text string }{
		{"ascii", "Hello, I ordered a lamp two weeks ago and it still has not been sent. Please check."},
		{"umlaut", "Grüße, meine Bestellung ist  seit drei Tagen unterwegs. Wo ist das Päckchen? 🙏 Schöne Grüße"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.text)))
			for b.Loop() {
				clean.Hash(clean.Fold(c.text))
			}
		})
	}
}

// A letter, a carriage return that is dropped, and a combining mark: what is left
// composes, and must be composed.
func TestADroppedCharacterLeavesNoLooseMark(t *testing.T) {
	for _, in := range []string{"a\r\u0308", "a\u200b\u0308", "a\x00\u0308"} {
		if got := clean.Text(in); got != "\u00e4" {
			t.Errorf("Text(%q) = %q, want %q", in, got, "\u00e4")
		}
	}
}
