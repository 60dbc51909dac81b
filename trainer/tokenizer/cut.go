package tokenizer

import (
	"encoding/json"
	"unicode"
	"unicode/utf8"
)

// The patterns with which Llama 3 and Qwen 2 and 3 cut text into words, as they stand in
// their tokenizer.json.
const (
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// cutter gives the length of the word at the beginning of s, which is not empty. In these
// patterns every character belongs to some word, so that cutting needs no list of matches.
type cutter func(s string) int

// cutters are the patterns that are cut by hand: an expression with a backtracking engine
// takes some fifty times as long, for every text of every dataset.
var cutters = map[string]cutter{
	gpt2Pattern:   gpt2Word,
	llama3Pattern: func(s string) int { return llamaWord(s, 3) },
	qwen2Pattern:  func(s string) int { return llamaWord(s, 1) },
}

// find makes a matchFinder of a cutter.
func (c cutter) find(s string) [][2]int {
	out := make([][2]int, 0, len(s)/4+1)
	for i := 0; i < len(s); {
		n := c(s[i:])
		out = append(out, [2]int{i, i + n})
		i += n
	}
	return out
}

// llamaWord finds what llama3Pattern (digits 3) or qwen2Pattern (1) finds at the beginning
// of s.
func llamaWord(s string, digits int) int {
	if s[0] == '\'' {
		if n := contraction(s); n > 0 {
			return n
		}
	}
	r, n := utf8.DecodeRuneInString(s)
	class := classOf(r)
	// A word, with one character before it that is none of a word, a number or a line break.
	switch {
	case class == classLetter:
		return n + run(s[n:], classLetter)
	case class == classNumber:
		for count := 1; count < digits && n < len(s); count++ {
			next, size := utf8.DecodeRuneInString(s[n:])
			if classOf(next) != classNumber {
				break
			}
			n += size
		}
		return n
	case r != '\r' && r != '\n' && n < len(s):
		if next, size := utf8.DecodeRuneInString(s[n:]); classOf(next) == classLetter {
			return n + size + run(s[n+size:], classLetter)
		}
	}
	// Signs, with a space before them and line breaks behind them.
	at := 0
	if s[0] == ' ' {
		at = 1
	}
	if signs := run(s[at:], classOther); signs > 0 {
		at += signs
		for at < len(s) && (s[at] == '\r' || s[at] == '\n') {
			at++
		}
		return at
	}
	// White space: up to its last line break if it has one, else without its last
	// character, which is left to the word that follows.
	end, last, breaks := 0, 0, 0
	for end < len(s) {
		r, n := utf8.DecodeRuneInString(s[end:])
		if classOf(r) != classSpace {
			break
		}
		last, end = end, end+n
		if r == '\r' || r == '\n' {
			breaks = end
		}
	}
	switch {
	case breaks > 0:
		return breaks
	case end < len(s) && last > 0:
		return last
	}
	return end
}

// contraction is the length of 's, 't, 're, 've, 'm, 'll or 'd in any case.
func contraction(s string) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] | 0x20 {
	case 's', 't', 'm', 'd':
		return 2
	case 'r', 'v', 'l':
		if len(s) > 2 {
			if pair := [2]byte{s[1] | 0x20, s[2] | 0x20}; pair == [2]byte{'r', 'e'} || pair == [2]byte{'v', 'e'} || pair == [2]byte{'l', 'l'} {
				return 3
			}
		}
	}
	if len(s) > 2 && s[1] == 0xc5 && s[2] == 0xbf { // ſ, whose other case is S
		return 3
	}
	return 0
}

// byteLevelCutter reads a pre-tokenizer that cuts by one of the cutters and spells the words
// in the byte alphabet, which is nearly every byte-level one; nil for others. digits: numbers
// are taken out one by one before.
func byteLevelCutter(raw json.RawMessage) (c cutter, digits bool) {
	type part struct {
		Type             string          `json:"type"`
		Pretokenizers    json.RawMessage `json:"pretokenizers"`
		AddPrefixSpace   *bool           `json:"add_prefix_space"`
		UseRegex         *bool           `json:"use_regex"`
		IndividualDigits bool            `json:"individual_digits"`
		Behavior         behavior        `json:"behavior"`
		Invert           bool            `json:"invert"`
		Pattern          struct {
			Regex string `json:"Regex"`
		} `json:"pattern"`
	}
	var whole part
	if isNull(raw) || json.Unmarshal(raw, &whole) != nil {
		return nil, false
	}
	parts := []part{whole}
	if whole.Type == "Sequence" && json.Unmarshal(whole.Pretokenizers, &parts) != nil || len(parts) == 0 || len(parts) > 2 {
		return nil, false
	}
	level := parts[len(parts)-1]
	if level.Type != "ByteLevel" || isTrue(level.AddPrefixSpace, true) {
		return nil, false
	}
	regex := isTrue(level.UseRegex, true)
	switch first := parts[0]; {
	case len(parts) == 1 && regex:
		return gpt2Word, false
	case len(parts) == 2 && regex && first.Type == "Digits" && first.IndividualDigits:
		return gpt2Word, true
	case len(parts) == 2 && !regex && first.Type == "Split" && first.Behavior == isolated && !first.Invert:
		return cutters[first.Pattern.Regex], false
	}
	return nil, false
}

// firstNumber is where the first number of s is, or its length.
func firstNumber(s string) int {
	for i, r := range s {
		if r >= '0' && r <= '9' || r >= utf8.RuneSelf && unicode.IsNumber(r) {
			return i
		}
	}
	return len(s)
}
