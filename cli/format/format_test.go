package format_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/cli/format"
)

func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		format.Bytes(0): "0 B", format.Bytes(999): "999 B", format.Bytes(4_212_345): "4.2 MB", format.Bytes(999_960): "1.0 MB", format.Bytes(120_000): "120 kB",
		format.Memory(24 << 30): "24 GiB", format.Memory(1<<30 + 1<<29): "1.5 GiB",
		format.Count(1204000): "1,204,000", format.Count(-999): "-999", format.Count(-1000): "-1,000",
		format.Number(0.41234): "0.412", format.Number(24.881): "24.88", format.Number(1.2e-5): "1.2e-05", format.Number(5120.3): "5,120", format.Number(3): "3",
		format.Measure(3): "3.000", format.Percent(0.913): "91.3 %", format.Short(3_412_000): "3.4 M", format.Short(12): "12",
		format.Plural(1, "row"): "1 row", format.Plural(0, "row"): "0 rows",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for got, want := range map[string]string{
		format.Duration(400 * time.Millisecond): "0.4s", format.Duration(9960 * time.Millisecond): "10s", format.Duration(59600 * time.Millisecond): "1m00s",
		format.Duration(185 * time.Second): "3m05s", format.Duration(130 * time.Minute): "2h10m", format.Duration(76 * time.Hour): "3d04h", format.Duration(-1): "0s", format.Duration(37 * time.Millisecond): "37ms", format.Duration(1): "1ms",
		format.Age(now.Add(-3*time.Minute), now): "3m", format.Age(now.Add(time.Hour), now): "0s", format.Age(now.Add(-47*time.Hour), now): "47h", format.Age(time.Time{}, now): "-",
		format.Seconds(1e300): "11574d01h",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestFitIsExactlyAsWideAsTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := format.Clean(rapid.String().Draw(t, "text"))
		width := rapid.IntRange(0, 40).Draw(t, "width")
		for name, got := range map[string]string{"Fit": format.Fit(s, width), "FitRight": format.FitRight(s, width)} {
			if w := format.Width(got); w != width {
				t.Fatalf("%s(%q, %d) is %d wide: %q", name, s, width, w, got)
			}
		}
		if got := format.CutMiddle(s, width); format.Width(got) > width {
			t.Fatalf("CutMiddle(%q, %d) is %q", s, width, got)
		}
	})
}

// A mark that stands first only because what stood before it is left out must
// not join with what is printed before the text.
func TestAMarkBehindALeftOutCharacterIsReplaced(t *testing.T) {
	for _, in := range []string{"\ufeff\u0903x", "\U0001F3FFx"} {
		if got := format.Clean(in); got != "\ufffdx" {
			t.Errorf("Clean(%q) = %q", in, got)
		}
	}
}

func TestCleanLeavesNoControlCharacter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		got := format.Clean(s)
		if !utf8.ValidString(got) {
			t.Fatalf("Clean(%q) is broken UTF-8", s)
		}
		for _, r := range got {
			if r < ' ' || (r >= 0x7f && r < 0xa0) {
				t.Fatalf("Clean(%q) keeps %U", s, r)
			}
		}
	})
	if got := format.Clean("Grüße 📦 日本"); got != "Grüße 📦 日本" {
		t.Errorf("Clean changed a good text to %q", got)
	}
}

func TestCutMiddleKeepsBothEnds(t *testing.T) {
	if got := format.CutMiddle("models/adapters/01JDCK/41/adapter.safetensors", 30); got != "models/ad…/adapter.safetensors" {
		t.Errorf("got %q", got)
	}
}

// A flag stays whole, wherever the line ends.
func TestFlagsAreNotBrokenByWrapping(t *testing.T) {
	const text = "name a folder on another disk with --work-dir, or leave out --dry-run"
	for width := 12; width <= len(text); width++ {
		lines := strings.Join(format.Wrap(text, width), "\n")
		if !strings.Contains(lines, "--work-dir,") || !strings.HasSuffix(lines, "--dry-run") {
			t.Errorf("%d cells:\n%s", width, lines)
		}
	}
}
