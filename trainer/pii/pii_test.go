package pii_test

import (
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/pii"
)

func TestPersonalDataIsReplacedAndNumbersOfOrdersAreNot(t *testing.T) {
	for in, want := range map[string]string{
		"":                                                      "",
		"mail anna.brown@example.com please":                    "mail [EMAIL] please",
		"(a+b@mail.example.co.uk).":                             "([EMAIL]).",
		"Jürgen: jürgen@example.org, danke":                     "Jürgen: [EMAIL], danke",
		"联系我user@example.com谢谢":                                 "联系我[EMAIL]谢谢",
		"a@b and @home and me@home, x@1.2.3":                    "a@b and @home and me@home, x@1.2.3",
		"two: a@example.com;b@example.com":                      "two: [EMAIL];[EMAIL]",
		"j.4155550123@example.com":                              "[EMAIL]",
		"call 212-555-0123 or (415) 555-0199":                   "call [PHONE] or [PHONE]",
		"+1 303 555 0101, 1-617-555-0142":                       "[PHONE], [PHONE]",
		"+49 221 5550123 und 0221 / 5550123":                    "[PHONE] und [PHONE]",
		"+442079460123.":                                        "[PHONE].",
		"ssn 078-05-1120, not 000-12-3456":                      "ssn [SSN], not 000-12-3456",
		"card 4111 1111 1111 1111 exp 09/27":                    "card [CREDIT_CARD] exp 09/27",
		"4111-1111-1111-1111":                                   "[CREDIT_CARD]",
		"amex 378282246310005!":                                 "amex [CREDIT_CARD]!",
		"4111 1111 1111 1112 is no card":                        "4111 1111 1111 1112 is no card",
		"order #98538, LM-12345, INV-7901":                      "order #98538, LM-12345, INV-7901",
		"2026-03-02T09:14:00Z and 01.02.2026":                   "2026-03-02T09:14:00Z and 01.02.2026",
		"01-02-2026, 10 20 30 40 50":                            "01-02-2026, 10 20 30 40 50",
		"order 123456789012, $1,234,567.89":                     "order 123456789012, $1,234,567.89",
		"version 3.141.592.6535":                                "version 3.141.592.6535",
		"ref A212-555-0123 and 212-555-01234":                   "ref A212-555-0123 and 212-555-01234",
		"card 4111111111111111 call 212-555-0100 a@example.com": "card [CREDIT_CARD] call [PHONE] [EMAIL]",
	} {
		var counts pii.Counts
		if got := pii.Redact(in, &counts); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
		if n := counts.Total(); n != int64(strings.Count(want, "[")) {
			t.Errorf("%q: %d counted", in, n)
		}
	}
}

func TestCountsAreNamed(t *testing.T) {
	var counts pii.Counts
	pii.Redact("a@example.com b@example.com 078-05-1120", &counts)
	if m := counts.Map(); len(m) != 2 || m["email"] != 2 || m["ssn"] != 1 {
		t.Errorf("%v", m)
	}
}

func FuzzFind(f *testing.F) {
	f.Add("mail a@example.com, +1 (212) 555-0123 4111 1111 1111 1111 ü@ü.de 078-05-1120")
	f.Fuzz(func(t *testing.T, text string) {
		end := 0
		for _, m := range pii.Find(nil, text) {
			if m.Start < end || m.End <= m.Start || m.End > len(text) {
				t.Fatalf("match %+v of %q after %d", m, text, end)
			}
			end = m.End
		}
		var first, second pii.Counts
		once := pii.Redact(text, &first)
		if first.Total() > 0 && once == text {
			t.Fatalf("counted %v in %q and replaced nothing", first, text)
		}
		pii.Redact(once, &second)
	})
}

func BenchmarkRedact(b *testing.B) {
	plain := "Hello, I ordered a lamp two weeks ago (order #98538) and it still has not been sent. Please check."
	for _, c := range []struct{ name, text string }{{"plain", plain}, {"found", plain + " You can reach me at a.brown@example.com or 212-555-0123."}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.text)))
			var counts pii.Counts
			for b.Loop() {
				pii.Redact(c.text, &counts)
			}
		})
	}
}
