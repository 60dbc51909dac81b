package jinja

import (
	"fmt"
	"strings"
)

// tag is a piece of a template's source: a text, or what stands in {{ }}, {% %}, {# #}.
type tag struct {
	kind        byte // 't' text, or the second character of the opening: '{', '%', '#'
	body        string
	left, right string // the marks at its ends: "", "-", "+"
	lost        int    // line breaks of a text that are not written
}

func (t tag) source() string {
	switch t.kind {
	case '{':
		return "{{" + t.left + t.body + t.right + "}}"
	case '%':
		return "{%" + t.left + t.body + t.right + "%}"
	case '#':
		return "{#" + t.left + t.body + t.right + "#}"
	}
	return quoted(t)
}

// word is a statement's first word, rest what follows.
func (t tag) word() (word, rest string) {
	body := strings.TrimSpace(t.body)
	n := 0
	for n < len(body) && isName(body[n]) {
		n++
	}
	return body[:n], strings.TrimSpace(body[n:])
}

func isName(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// tags cuts a template (jinja2, lexer.py): texts in quotes may hold the closing marks.
func tags(s string) ([]tag, error) {
	var out []tag
	from := 0
	for i := 0; i+1 < len(s); {
		kind := s[i+1]
		if s[i] != '{' || kind != '{' && kind != '%' && kind != '#' {
			i++
			continue
		}
		if i > from {
			out = append(out, tag{kind: 't', body: s[from:i]})
		}
		end, err := closing(s, i+2, kind)
		if err != nil {
			return nil, fmt.Errorf("%w in line %d", err, 1+strings.Count(s[:i], "\n"))
		}
		t := tag{kind: kind, body: s[i+2 : end]}
		if t.body != "" && (t.body[0] == '-' || t.body[0] == '+') {
			t.left, t.body = t.body[:1], t.body[1:]
		}
		if n := len(t.body); n > 0 && (t.body[n-1] == '-' || t.body[n-1] == '+' && kind == '%') {
			t.right, t.body = t.body[n-1:], t.body[:n-1]
		}
		out = append(out, t)
		i = end + 2
		from = i
	}
	if from < len(s) {
		out = append(out, tag{kind: 't', body: s[from:]})
	}
	return out, nil
}

// closing finds where the tag of kind ends whose body begins at i. A brace closes one
// that the tag itself opened first, as in {{ {'a': {}} }}.
func closing(s string, i int, kind byte) (int, error) {
	last := kind
	if kind == '{' {
		last = '}'
	}
	for depth := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case kind != '#' && (c == '\'' || c == '"'):
			for i++; i < len(s) && s[i] != c; i++ {
				if s[i] == '\\' {
					i++
				}
			}
		case c == last && i+1 < len(s) && s[i+1] == '}' && depth == 0:
			return i, nil
		case kind == '{' && c == '{':
			depth++
		case kind == '{' && c == '}' && depth > 0:
			depth--
		}
	}
	return 0, fmt.Errorf("a tag {%c is not closed", kind)
}
