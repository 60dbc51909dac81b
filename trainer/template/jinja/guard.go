package jinja

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// block is one that is open while guard goes through a template.
type block struct {
	word  string
	at    int      // of its tag in the output
	begin int      // of its body in the source
	names []string // that it gives values: of a set until endset, of a loop
	sets  []string // names that the body of a loop gives values
}

// guard writes calls of the meter into a template: at the beginning of each body that
// may run more than once, after each name that is given a value, and around each value
// that is written. The calls print nothing.
func guard(source string) (string, error) {
	if len(source) > MaxSource {
		return "", fmt.Errorf("the template has %d bytes, more than %d", len(source), MaxSource)
	}
	if strings.Contains(source, "__tm_") {
		return "", fmt.Errorf("the template uses the name __tm_, which is reserved")
	}
	// jinja2's lexer makes one kind of line break of all.
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	list, err := tags(source)
	if err != nil {
		return "", err
	}
	g := &guarded{}
	for _, t := range layOut(list) {
		g.done += 4 + len(t.body)
		if err := g.add(t); err != nil {
			return "", err
		}
	}
	if len(g.open) > 0 {
		return "", fmt.Errorf("the tag %s is not closed", g.open[len(g.open)-1].word)
	}
	var b strings.Builder
	for _, piece := range g.out {
		b.WriteString(piece)
	}
	return b.String(), nil
}

type guarded struct {
	out  []string
	done int // bytes of the source
	open []block
}

func (g *guarded) emit(t tag) { g.out = append(g.out, t.source()) }

// call writes a call behind t.
func (g *guarded) call(t tag, call string) {
	g.emit(t)
	g.emit(tag{kind: '%', body: " if " + call + " "})
	g.emit(tag{kind: '%', body: " endif "})
}

func (g *guarded) add(t tag) error {
	if t.kind == 't' || t.kind == '#' {
		g.emit(t)
		return nil
	}
	grown, err := inspect(t)
	if err != nil {
		return err
	}
	if t.kind == '{' {
		if strings.TrimSpace(t.body) != "" {
			t.body = " " + fnWrite + "(" + strings.Join(append([]string{"(" + t.body + ")"}, grown...), ", ") + ") "
		}
		g.emit(t)
		return nil
	}
	word, rest := t.word()
	switch word {
	case "include", "import", "from", "extends", "raw", "block":
		return fmt.Errorf("the tag %s is not supported: a template stands alone", word)
	case "do", "set":
	default:
		if len(grown) > 0 {
			return fmt.Errorf("%s is changed within the tag %s, which is not supported", grown[0], word)
		}
	}
	if strings.HasPrefix(word, "end") {
		return g.end(t, word)
	}
	switch word {
	case "for", "call":
		left, _, _ := strings.Cut(rest, " in ")
		g.begin(word, targets(strings.Trim(left, "( )")))
		g.out = append(g.out, "") // end fills these in, and the length
		g.call(t, fnTick+"(0)")
		g.out = append(g.out, "")
	case "macro":
		g.begin(word, nil)
		g.out = append(g.out, "")
		g.call(t, fnEnter+"("+strings.Join(append([]string{"0"}, parameters(rest)...), ", ")+")")
	case "if", "filter":
		g.begin(word, nil)
		g.emit(t)
	case "generation":
		g.begin(word, nil)
		t.body = " if true "
		g.emit(t)
	case "set":
		names := targets(rest)
		if len(names) == 0 {
			return fmt.Errorf("the tag {%% %.40s %%} is not understood", strings.TrimSpace(t.body))
		}
		g.scope(names)
		if !strings.Contains(outsideTexts(rest), "=") { // until endset
			g.begin(word, names)
			g.emit(t)
			break
		}
		g.call(t, fnKeep+"("+strings.Join(append(names, grown...), ", ")+")")
	case "do":
		g.call(t, fnKeep+"("+strings.Join(grown, ", ")+")")
	default:
		g.emit(t)
	}
	if len(g.open) > MaxNesting {
		return fmt.Errorf("blocks are nested more than %d deep", MaxNesting)
	}
	return nil
}

func (g *guarded) begin(word string, names []string) {
	g.open = append(g.open, block{word: word, at: len(g.out), begin: g.done, names: names})
}

// scope notes what a loop's body gives values: each pass begins with the values of outside
// (jinja2, "Assignments"), where the interpreter would keep those of the pass before.
func (g *guarded) scope(names []string) {
	for i := len(g.open) - 1; i >= 0; i-- {
		switch b := &g.open[i]; b.word {
		case "for":
			for _, name := range names {
				// The loop's own variables are given anew in each pass.
				if !strings.Contains(name, ".") && !slices.Contains(b.sets, name) && !slices.Contains(b.names, name) {
					b.sets = append(b.sets, name)
				}
			}
			return
		case "macro", "call":
			return
		}
	}
}

func (g *guarded) end(t tag, word string) error {
	last := len(g.open) - 1
	if last < 0 || "end"+g.open[last].word != word {
		return fmt.Errorf("the tag %s closes nothing", word)
	}
	b := g.open[last]
	g.open = g.open[:last]
	switch b.word {
	case "for", "call", "macro":
		call := &g.out[b.at+2] // the tag itself stands before it
		*call = strings.Replace(*call, "(0", fmt.Sprintf("(%d", g.done-b.begin), 1)
		for i, name := range b.sets {
			kept := fmt.Sprintf("__tm_%d_%d", b.at, i)
			g.out[b.at] += "{% set " + kept + " = " + name + " %}"
			g.out[b.at+4] += "{% set " + name + " = " + kept + " %}"
		}
	}
	switch b.word {
	case "macro":
		g.emit(tag{kind: '%', body: " if " + fnLeave + "() "})
		g.emit(tag{kind: '%', body: " endif "})
		g.emit(t)
	case "set":
		g.call(t, fnKeep+"("+strings.Join(b.names, ", ")+")")
	case "generation":
		t.body = " endif "
		g.emit(t)
	default:
		g.emit(t)
	}
	return nil
}

var (
	parameter = regexp.MustCompile(`^\s*([A-Za-z_]\w*)\s*(=|$)`)
	target    = regexp.MustCompile(`^\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)\s*$`)
)

// parameters are the names in "f(a, b=1)".
func parameters(rest string) (out []string) {
	_, list, _ := strings.Cut(outsideTexts(rest), "(")
	list = list[:max(0, strings.LastIndexByte(list, ')'))]
	for _, p := range topLevel(list) {
		if m := parameter.FindStringSubmatch(p); m != nil {
			out = append(out, m[1])
		}
	}
	return out
}

// targets are the names in "a = 1", "ns.a = 1" and "a, b = 1, 2".
func targets(rest string) (out []string) {
	left, _, _ := strings.Cut(outsideTexts(rest), "=")
	left, _, _ = strings.Cut(left, "|") // {% set x | filter %}
	for _, name := range strings.Split(left, ",") {
		m := target.FindStringSubmatch(name)
		if m == nil {
			return nil
		}
		out = append(out, m[1])
	}
	return slices.Compact(out)
}

// topLevel cuts at the commas outside of brackets.
func topLevel(list string) (out []string) {
	depth, from := 0, 0
	for i := 0; i < len(list); i++ {
		switch list[i] {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case ',':
			if depth == 0 {
				out = append(out, list[from:i])
				from = i + 1
			}
		}
	}
	return append(out, list[from:])
}
