package bytealphabet_test

import (
	"testing"

	"github.com/tunemesh/tunemesh/trainer/tokenizer/bytealphabet"
)

func TestBijection(t *testing.T) {
	seen := map[rune]bool{}
	for b := range 256 {
		r := bytealphabet.Rune(byte(b))
		if seen[r] {
			t.Errorf("%q stands for two bytes", r)
		}
		seen[r] = true
		if back, ok := bytealphabet.Byte(r); !ok || back != byte(b) {
			t.Errorf("%02x -> %q -> %02x %v", b, r, back, ok)
		}
	}
	if got := bytealphabet.Encode(" a\né"); got != "ĠaĊÃ©" {
		t.Errorf("got %q", got)
	}
	if got, ok := bytealphabet.Decode("ĠaĊÃ©"); !ok || got != " a\né" {
		t.Errorf("got %q", got)
	}
	if _, ok := bytealphabet.Decode("a b"); ok {
		t.Error("a space stands for no byte")
	}
}
