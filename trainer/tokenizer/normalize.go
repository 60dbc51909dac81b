package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// normalizer rewrites a text before it is split.
type normalizer interface {
	normalize(string) string
}

type normalizerFunc func(string) string

func (f normalizerFunc) normalize(s string) string { return f(s) }

type normalizerConfig struct {
	Type        string            `json:"type"`
	Normalizers []json.RawMessage `json:"normalizers"`
	Prepend     string            `json:"prepend"`
	Pattern     json.RawMessage   `json:"pattern"`
	Content     string            `json:"content"`
	StripLeft   bool              `json:"strip_left"`
	StripRight  bool              `json:"strip_right"`
	Charsmap    []byte            `json:"precompiled_charsmap"` // base64
	Match       string            `json:"match"`                // of Precompiled: ours, see MatchLongest
}

// MatchLongest as the "match" of a Precompiled normalizer says that a text is normalized as
// SentencePiece does it. The original passes over it and does it nearly so, as it does for
// every Precompiled (see charsmap).
const MatchLongest = "longest"

func parseNormalizer(raw json.RawMessage) (normalizer, error) {
	if isNull(raw) {
		return nil, nil
	}
	var c normalizerConfig
	if err := readPart(raw, &c); err != nil {
		return nil, fmt.Errorf("normalizer: %w", err)
	}
	switch c.Type {
	case "NFC":
		return normalizerFunc(norm.NFC.String), nil
	case "NFD":
		return normalizerFunc(norm.NFD.String), nil
	case "NFKC":
		return normalizerFunc(norm.NFKC.String), nil
	case "NFKD":
		return normalizerFunc(norm.NFKD.String), nil
	case "Lowercase":
		return normalizerFunc(lowercase), nil
	case "StripAccents":
		return normalizerFunc(func(s string) string {
			return strings.Map(func(r rune) rune {
				if unicode.Is(unicode.M, r) {
					return -1
				}
				return r
			}, s)
		}), nil
	case "Strip":
		return normalizerFunc(func(s string) string {
			if c.StripLeft {
				s = strings.TrimLeftFunc(s, unicode.IsSpace)
			}
			if c.StripRight {
				s = strings.TrimRightFunc(s, unicode.IsSpace)
			}
			return s
		}), nil
	case "Prepend":
		return normalizerFunc(func(s string) string {
			if s == "" {
				return s
			}
			return c.Prepend + s
		}), nil
	case "Replace":
		p, err := parsePattern(c.Pattern)
		if err != nil {
			return nil, fmt.Errorf("normalizer Replace: %w", err)
		}
		return normalizerFunc(func(s string) string { return replaceAll(s, p, c.Content) }), nil
	case "Precompiled":
		m, err := parseCharsmap(c.Charsmap)
		if err != nil {
			return nil, fmt.Errorf("normalizer Precompiled: %w", err)
		}
		switch c.Match {
		case "":
			return normalizerFunc(m.clusters), nil
		case MatchLongest:
			return normalizerFunc(m.longest), nil
		}
		return nil, unsupported("normalizer Precompiled with match", c.Match)
	case "ByteLevel":
		return normalizerFunc(toPrintable), nil
	case "Sequence":
		var seq []normalizer
		for _, raw := range c.Normalizers {
			n, err := parseNormalizer(raw)
			if err != nil {
				return nil, err
			}
			if n != nil {
				seq = append(seq, n)
			}
		}
		return normalizerFunc(func(s string) string {
			for _, n := range seq {
				s = n.normalize(s)
			}
			return s
		}), nil
	}
	return nil, unsupported("normalizer", c.Type)
}

// lowercase maps rune by rune, without the rule for a final sigma, as the original
// does. U+0130 is the one rune whose lower case is two runes (SpecialCasing.txt).
func lowercase(s string) string {
	if strings.ContainsRune(s, 'İ') {
		s = strings.ReplaceAll(s, "İ", "i\u0307")
	}
	return strings.ToLower(s)
}

func replaceAll(s string, p matchFinder, with string) string {
	var b strings.Builder
	at := 0
	for _, m := range p.find(s) {
		b.WriteString(s[at:m[0]])
		b.WriteString(with)
		at = m[1]
	}
	if at == 0 {
		return s
	}
	b.WriteString(s[at:])
	return b.String()
}
