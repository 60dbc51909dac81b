package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// word is a piece of text that is encoded by itself. first says that it begins
// where the raw text began.
type word struct {
	text  string
	first bool
}

// pretokenizer cuts words into smaller ones.
type pretokenizer interface {
	pretokenize([]word) []word
}

type pretokenizerFunc func([]word) []word

func (f pretokenizerFunc) pretokenize(ws []word) []word { return f(ws) }

type pretokenizerConfig struct {
	Type             string            `json:"type"`
	Pretokenizers    []json.RawMessage `json:"pretokenizers"`
	AddPrefixSpace   *bool             `json:"add_prefix_space"`
	UseRegex         *bool             `json:"use_regex"`
	Pattern          json.RawMessage   `json:"pattern"`
	Behavior         behavior          `json:"behavior"`
	Invert           bool              `json:"invert"`
	IndividualDigits bool              `json:"individual_digits"`
	Replacement      string            `json:"replacement"`
	PrependScheme    string            `json:"prepend_scheme"`
	Split            *bool             `json:"split"`
}

func parsePretokenizer(raw json.RawMessage) (pretokenizer, error) {
	if isNull(raw) {
		return nil, nil
	}
	var c pretokenizerConfig
	if err := readPart(raw, &c); err != nil {
		return nil, fmt.Errorf("pre-tokenizer: %w", err)
	}
	switch c.Type {
	case "ByteLevel":
		return byteLevelPretokenizer(isTrue(c.AddPrefixSpace, true), isTrue(c.UseRegex, true)), nil
	case "Split":
		p, err := parsePattern(c.Pattern)
		if err == nil {
			err = c.Behavior.check()
		}
		if err != nil {
			return nil, fmt.Errorf("pre-tokenizer Split: %w", err)
		}
		return splitter(p, c.Behavior, c.Invert), nil
	case "Digits":
		b := contiguous
		if c.IndividualDigits {
			b = isolated
		}
		return splitter(runeClass(unicode.IsNumber), b, false), nil
	case "Punctuation":
		b := c.Behavior
		if b == "" {
			b = isolated
		}
		if err := b.check(); err != nil {
			return nil, fmt.Errorf("pre-tokenizer Punctuation: %w", err)
		}
		return splitter(runeClass(isPunctuation), b, false), nil
	case "WhitespaceSplit":
		return splitter(runeClass(unicode.IsSpace), removed, false), nil
	case "Whitespace":
		return splitter(wordsAndSigns{}, removed, true), nil
	case "Metaspace":
		return metaspacePretokenizer(c)
	case "Sequence":
		var seq []pretokenizer
		for _, raw := range c.Pretokenizers {
			p, err := parsePretokenizer(raw)
			if err != nil {
				return nil, err
			}
			if p != nil {
				seq = append(seq, p)
			}
		}
		return pretokenizerFunc(func(ws []word) []word {
			for _, p := range seq {
				ws = p.pretokenize(ws)
			}
			return ws
		}), nil
	}
	return nil, unsupported("pre-tokenizer", c.Type)
}

// cut appends the pieces of w to out.
func cut(out []word, w word, p matchFinder, b behavior, invert bool) []word {
	for _, r := range splitBy(w.text, p, b, invert) {
		out = append(out, word{w.text[r[0]:r[1]], w.first && r[0] == 0})
	}
	return out
}

func splitter(p matchFinder, b behavior, invert bool) pretokenizer {
	return pretokenizerFunc(func(ws []word) []word {
		out := make([]word, 0, len(ws))
		for _, w := range ws {
			out = cut(out, w, p, b, invert)
		}
		return out
	})
}

func byteLevelPretokenizer(prefixSpace, useRegex bool) pretokenizer {
	return pretokenizerFunc(func(ws []word) []word {
		out := make([]word, 0, len(ws))
		for _, w := range ws {
			if prefixSpace && !strings.HasPrefix(w.text, " ") {
				w.text = " " + w.text
			}
			if useRegex {
				out = cut(out, w, cutter(gpt2Word), isolated, false)
			} else {
				out = append(out, w)
			}
		}
		for i := range out {
			out[i].text = toPrintable(out[i].text)
		}
		return out
	})
}

func metaspacePretokenizer(c pretokenizerConfig) (pretokenizer, error) {
	scheme, mark, err := metaspaceScheme(c.Replacement, c.PrependScheme, c.AddPrefixSpace)
	if err != nil {
		return nil, fmt.Errorf("pre-tokenizer Metaspace: %w", err)
	}
	split := isTrue(c.Split, true)
	return pretokenizerFunc(func(ws []word) []word {
		out := make([]word, 0, len(ws))
		for _, w := range ws {
			w.text = strings.ReplaceAll(w.text, " ", mark)
			if scheme == "always" || scheme == "first" && w.first {
				if !strings.HasPrefix(w.text, mark) {
					w.text = mark + w.text
				}
			}
			if split {
				out = cut(out, w, literal(mark), mergedWithNext, false)
			} else {
				out = append(out, w)
			}
		}
		return out
	}), nil
}

// metaspaceScheme reads the two spellings of when a mark goes before the text:
// prepend_scheme, and add_prefix_space of older files.
func metaspaceScheme(mark, scheme string, legacy *bool) (string, string, error) {
	if mark == "" {
		mark = "▁"
	}
	if utf8.RuneCountInString(mark) != 1 {
		return "", "", fmt.Errorf("replacement %q is not one character", mark)
	}
	if scheme == "" {
		scheme = "always"
		if legacy != nil && !*legacy {
			scheme = "never"
		}
	}
	switch scheme {
	case "always", "first", "never":
		return scheme, mark, nil
	}
	return "", "", fmt.Errorf("unknown prepend_scheme %q", scheme)
}

// wordsAndSigns is \w+|[^\w\s]+ with Unicode's classes.
type wordsAndSigns struct{}

func (wordsAndSigns) find(s string) [][2]int {
	kind := func(r rune) int {
		switch {
		case isWord(r):
			return 1
		case unicode.IsSpace(r):
			return 0
		}
		return 2
	}
	var out [][2]int
	last := 0
	for i, r := range s {
		k := kind(r)
		if k != 0 && k == last {
			out[len(out)-1][1] = i + utf8.RuneLen(r)
		} else if k != 0 {
			out = append(out, [2]int{i, i + utf8.RuneLen(r)})
		}
		last = k
	}
	return out
}

func isPunctuation(r rune) bool {
	if r < utf8.RuneSelf {
		return r > ' ' && r < 0x7f && !('0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z')
	}
	return unicode.IsPunct(r)
}
