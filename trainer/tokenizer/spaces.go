package tokenizer

import "strings"

// finders are the expressions with which tokenizer.json files of the SentencePiece kind
// remove extra spaces, found by hand: they go over every text.
var finders = map[string]matchFinder{
	" {2,}":       finder(spaceRuns),
	`\A | \z`:     finder(spacesAround),
	space + `+\z`: finder(marksAtEnd),
}

type finder func(s string) [][2]int

func (f finder) find(s string) [][2]int { return f(s) }

func spaceRuns(s string) (out [][2]int) {
	for at := 0; ; {
		i := strings.Index(s[at:], "  ")
		if i < 0 {
			return out
		}
		begin := at + i
		at = begin + 2
		for at < len(s) && s[at] == ' ' {
			at++
		}
		out = append(out, [2]int{begin, at})
	}
}

func spacesAround(s string) (out [][2]int) {
	if strings.HasPrefix(s, " ") {
		out = append(out, [2]int{0, 1})
	}
	if len(s) > 1 && strings.HasSuffix(s, " ") {
		out = append(out, [2]int{len(s) - 1, len(s)})
	}
	return out
}

func marksAtEnd(s string) [][2]int {
	begin := len(s)
	for strings.HasSuffix(s[:begin], space) {
		begin -= len(space)
	}
	if begin == len(s) {
		return nil
	}
	return [][2]int{{begin, len(s)}}
}
