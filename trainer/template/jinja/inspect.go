package jinja

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// outsideTexts is an expression with every text in quotes emptied.
func outsideTexts(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		b.WriteByte(s[i])
		if c := s[i]; c == '\'' || c == '"' {
			for i++; i < len(s) && s[i] != c; i++ {
				if s[i] == '\\' {
					i++
				}
			}
			b.WriteByte(c)
		}
	}
	return b.String()
}

var (
	number  = regexp.MustCompile(`[0-9][0-9_]*`)
	changes = regexp.MustCompile(`([A-Za-z_][\w.]*)\s*\.\s*(append|insert|update|extend|setdefault)\s*\(`)
	changed = regexp.MustCompile(`\.\s*(append|insert|update|extend|setdefault)\b`)
	nothing = regexp.MustCompile(`^[\s)]*(or\s*(''|""))?[\s)]*$`)
	// Filters and methods whose result may be longer than what they are given by what
	// their arguments say.
	grows   = regexp.MustCompile(`\b(replace|join|indent|batch|center|ljust|rjust|zfill|wordwrap)\b\s*(\(?)`)
	formats = regexp.MustCompile(`[.|]\s*format\b|\bmap\s*\(\s*['"](replace|join|indent|batch|format)\b`)
	plain   = regexp.MustCompile(`^\s*(?:\w+\s*=\s*)?(?:(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|-?\d+|true|false|none|True|False|None|)\s*$`)
)

// inspect refuses a tag whose cost cannot be bounded. It gives the lists and dicts that
// the tag lengthens.
func inspect(t tag) ([]string, error) {
	bare := outsideTexts(t.body)
	where := func(why string, args ...any) error {
		return fmt.Errorf("in the tag %.60q: %s", strings.TrimSpace(t.body), fmt.Sprintf(why, args...))
	}
	if len(bare) > MaxTag {
		return nil, where("it has %d bytes outside of texts, more than %d", len(bare), MaxTag)
	}
	depth := 0
	for i := range len(bare) {
		switch bare[i] {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case '*':
			return nil, where("multiplication is not supported")
		}
		if depth > MaxNesting/2 {
			return nil, where("brackets are nested more than %d deep", MaxNesting/2)
		}
	}
	for _, n := range number.FindAllString(bare, -1) {
		if v, err := strconv.Atoi(strings.ReplaceAll(n, "_", "")); err != nil || v > 1e9 {
			return nil, where("the number %.20s is too large", n)
		}
	}
	growth := 1 + strings.Count(bare, "~") + strings.Count(bare, "+")
	more, err := grown(t.body)
	if err != nil {
		return nil, where("%s", err)
	}
	if more > MaxGrowth || growth*more > MaxGrowth {
		return nil, where("it may make a text more than %d times as long", MaxGrowth)
	}
	var out []string
	for _, m := range changes.FindAllStringSubmatchIndex(bare, -1) {
		out = append(out, bare[m[2]:m[3]])
		// What is printed behind the change in the same tag, nobody has looked at.
		rest := bare[m[1]:]
		for depth := 1; rest != "" && depth > 0; rest = rest[1:] {
			depth += strings.Count(rest[:1], "(") - strings.Count(rest[:1], ")")
		}
		if !nothing.MatchString(rest) {
			return nil, where("behind a change of %s more is computed, which is not supported", out[0])
		}
	}
	if n := len(changed.FindAllString(bare, -1)); n != len(out) || n > 1 {
		return nil, where("lists and dicts are changed in a way that is not supported")
	}
	return out, nil
}

// grown bounds by how much replacing and joining make a text longer.
func grown(body string) (int, error) {
	growth := 1
	masked := mask(body)
	if m := formats.FindString(body); m != "" {
		return 0, fmt.Errorf("%q is not supported", m)
	}
	for _, m := range grows.FindAllStringSubmatchIndex(masked, -1) {
		name := body[m[2]:m[3]]
		before := strings.TrimSpace(masked[:m[0]])
		if !strings.HasSuffix(before, "|") && !strings.HasSuffix(before, ".") && before != "filter" {
			continue // a name like another
		}
		if m[4] == m[5] { // no arguments
			continue
		}
		args := arguments(body, masked, m[5])
		longest := 0
		for _, a := range args {
			if !plain.MatchString(a) {
				return 0, fmt.Errorf("the arguments of %s have to be written out", name)
			}
			a = strings.TrimSpace(a)
			if n, err := strconv.Atoi(a[strings.IndexByte(a, '=')+1:]); err == nil && name != "replace" {
				longest = max(longest, n, -n)
			}
			longest = max(longest, len(a)-2)
		}
		switch name {
		case "join", "indent":
			longest++
		}
		if name == "replace" && len(args) >= 2 {
			from, to := len(strings.TrimSpace(args[0]))-2, len(strings.TrimSpace(args[1]))-2
			longest = to + 1
			if from > 0 {
				longest = (to + from - 1) / from
			}
		}
		if growth *= max(1, longest); growth > MaxGrowth {
			return growth, nil
		}
	}
	return growth, nil
}

// mask is body with the contents of texts overwritten, in the same places.
func mask(body string) string {
	out := []byte(body)
	for i := 0; i < len(body); i++ {
		if c := body[i]; c == '\'' || c == '"' {
			for i++; i < len(body) && body[i] != c; i++ {
				out[i] = '_'
				if body[i] == '\\' && i+1 < len(body) {
					i++
					out[i] = '_'
				}
			}
		}
	}
	return string(out)
}

// arguments are those of the call whose bracket opens before at.
func arguments(body, masked string, at int) (out []string) {
	depth, from := 0, at
	for i := at; i < len(masked); i++ {
		switch masked[i] {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			if depth--; depth < 0 {
				return append(out, body[from:i])
			}
		case ',':
			if depth == 0 {
				out = append(out, body[from:i])
				from = i + 1
			}
		}
	}
	return append(out, body[from:])
}
