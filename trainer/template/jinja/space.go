package jinja

import (
	"strings"
	"unicode"
)

// isSpace is Python's \s.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

// layOut settles what white space of the texts is written, as jinja2 does with trim_blocks
// and lstrip_blocks (lexer.py, tokeniter), and takes the marks off the tags:
//
//   - a mark - takes all white space on its side, a mark + keeps it,
//   - behind a block or a comment one line break goes,
//   - before a block or a comment the indentation goes if nothing else stands before it in
//     the line,
//   - the last line break of the source goes.
//
// The line breaks that go are kept in lost, so that errors name the right line.
func layOut(list []tag) []tag {
	if n := len(list); n > 0 && list[n-1].kind == 't' {
		list[n-1].body = strings.TrimSuffix(list[n-1].body, "\n")
	}
	lineStarts := true
	for i := range list {
		t := &list[i]
		if t.kind != 't' {
			lineStarts = behind(list, i)
			continue
		}
		before := t.body
		if i+1 < len(list) {
			next := list[i+1]
			switch at := strings.LastIndexByte(t.body, '\n') + 1; {
			case next.left == "-":
				t.body = strings.TrimRightFunc(t.body, isSpace)
			case next.left == "" && next.kind != '{' && (at > 0 || lineStarts) && strings.TrimLeftFunc(t.body[at:], isSpace) == "":
				t.body = t.body[:at]
			}
		}
		t.lost += strings.Count(before, "\n") - strings.Count(t.body, "\n")
	}
	for i := range list {
		list[i].left, list[i].right = "", ""
	}
	return list
}

// behind takes off the text behind tag i what the tag's end takes, and says whether that
// ended with a line break.
func behind(list []tag, i int) bool {
	if i+1 == len(list) || list[i+1].kind != 't' {
		return false
	}
	t, text := list[i], &list[i+1]
	rest := text.body
	switch {
	case t.right == "-":
		rest = strings.TrimLeftFunc(rest, isSpace)
	case t.right == "" && t.kind != '{':
		rest = strings.TrimPrefix(rest, "\n")
	}
	taken := text.body[:len(text.body)-len(rest)]
	text.body = rest
	text.lost += strings.Count(taken, "\n")
	return strings.HasSuffix(taken, "\n")
}

// quoted is a text as a tag that writes it: the interpreter has its own idea of white
// space around tags, which does not apply within one.
func quoted(t tag) string {
	if t.body == "" && t.lost == 0 {
		return ""
	}
	if t.body == "" {
		return "{#" + strings.Repeat("\n", t.lost) + "#}"
	}
	return `{{ "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(t.body) + `"` + strings.Repeat("\n", t.lost) + ` }}`
}
