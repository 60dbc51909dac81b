package tokenizer

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tunemesh/tunemesh/trainer/tokenizer/bytealphabet"
)

// decoder turns tokens into pieces of text; joined they are the text.
type decoder interface {
	decode([]string) []string
}

type decoderFunc func([]string) []string

func (f decoderFunc) decode(ts []string) []string { return f(ts) }

type decoderConfig struct {
	Type           string            `json:"type"`
	Decoders       []json.RawMessage `json:"decoders"`
	Pattern        json.RawMessage   `json:"pattern"`
	Content        string            `json:"content"`
	Start          int               `json:"start"`
	Stop           int               `json:"stop"`
	Suffix         string            `json:"suffix"`
	Replacement    string            `json:"replacement"`
	PrependScheme  string            `json:"prepend_scheme"`
	AddPrefixSpace *bool             `json:"add_prefix_space"`
}

func parseDecoder(raw json.RawMessage) (decoder, error) {
	if isNull(raw) {
		return nil, nil
	}
	var c decoderConfig
	if err := readPart(raw, &c); err != nil {
		return nil, fmt.Errorf("decoder: %w", err)
	}
	switch c.Type {
	case "ByteLevel":
		return decoderFunc(decodeByteLevel), nil
	case "ByteFallback":
		return decoderFunc(decodeByteFallback), nil
	case "Fuse":
		return decoderFunc(func(ts []string) []string { return []string{strings.Join(ts, "")} }), nil
	case "Replace":
		p, err := parsePattern(c.Pattern)
		if err != nil {
			return nil, fmt.Errorf("decoder Replace: %w", err)
		}
		return each(func(_ int, s string) string { return replaceAll(s, p, c.Content) }), nil
	case "Strip":
		if utf8.RuneCountInString(c.Content) != 1 {
			return nil, fmt.Errorf("decoder Strip: content %q is not one character", c.Content)
		}
		return each(func(_ int, s string) string {
			for range max(c.Start, 0) {
				s = strings.TrimPrefix(s, c.Content)
			}
			for range max(c.Stop, 0) {
				s = strings.TrimSuffix(s, c.Content)
			}
			return s
		}), nil
	case "Metaspace":
		scheme, mark, err := metaspaceScheme(c.Replacement, c.PrependScheme, c.AddPrefixSpace)
		if err != nil {
			return nil, fmt.Errorf("decoder Metaspace: %w", err)
		}
		return each(func(i int, s string) string {
			if i == 0 && scheme != "never" {
				return strings.ReplaceAll(s, mark, "")
			}
			return strings.ReplaceAll(s, mark, " ")
		}), nil
	case "BPEDecoder":
		return decoderFunc(func(ts []string) []string {
			out := make([]string, len(ts))
			for i, s := range ts {
				with := " "
				if i == len(ts)-1 {
					with = ""
				}
				if c.Suffix != "" {
					s = strings.ReplaceAll(s, c.Suffix, with)
				}
				out[i] = s
			}
			return out
		}), nil
	case "Sequence":
		var seq []decoder
		for _, raw := range c.Decoders {
			d, err := parseDecoder(raw)
			if err != nil {
				return nil, err
			}
			if d != nil {
				seq = append(seq, d)
			}
		}
		return decoderFunc(func(ts []string) []string {
			for _, d := range seq {
				ts = d.decode(ts)
			}
			return ts
		}), nil
	}
	return nil, unsupported("decoder", c.Type)
}

func each(f func(i int, s string) string) decoder {
	return decoderFunc(func(ts []string) []string {
		out := make([]string, len(ts))
		for i, s := range ts {
			out[i] = f(i, s)
		}
		return out
	})
}

// decodeByteLevel joins the bytes that the tokens spell. A token with a character
// outside of the alphabet (an added one) stands for itself.
func decodeByteLevel(ts []string) []string {
	var b strings.Builder
	for _, t := range ts {
		if raw, ok := bytealphabet.Decode(t); ok {
			b.WriteString(raw)
		} else {
			b.WriteString(t)
		}
	}
	return []string{lossy(b.String())}
}

// decodeByteFallback joins runs of <0xE2> tokens. A run that is no UTF-8 becomes
// one U+FFFD for each byte.
func decodeByteFallback(ts []string) []string {
	var out []string
	var run []byte
	flush := func() {
		if utf8.Valid(run) {
			if len(run) > 0 {
				out = append(out, string(run))
			}
		} else {
			for range run {
				out = append(out, "\uFFFD")
			}
		}
		run = run[:0]
	}
	for _, t := range ts {
		if len(t) == 6 && strings.HasPrefix(t, "<0x") && t[5] == '>' {
			if b, err := strconv.ParseUint(t[3:5], 16, 8); err == nil {
				run = append(run, byte(b))
				continue
			}
		}
		flush()
		out = append(out, t)
	}
	flush()
	return out
}
