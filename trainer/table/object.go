package table

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// parse reads one flat object into cells. With grow set new keys become columns.
// atEnd says that nothing follows the line, so that a line which ends too early
// means a file that was cut off.
func (j *jsonlReader) parse(line string, grow, atEnd bool) *contract.Error {
	if e := textFault(line, "line"); e != nil {
		return j.fault(e.code, e.message, j.columnAt(line), e.hint)
	}
	p := objectParser{s: line}
	if p.peek() != '{' {
		return j.notAnObject(line)
	}
	p.i++
	j.reset()
	for p.space(); p.peek() != '}'; {
		key, ok := p.text()
		if !ok || !p.colon() {
			return j.badJSON(&p, "", atEnd)
		}
		at := j.slot(key, grow)
		from := p.i
		value, nested, ok := p.value()
		if int64(p.i-from) > j.o.MaxCellBytes && (int64(len(value)) > j.o.MaxCellBytes || !ok || nested) {
			return j.fault("CELL_TOO_LARGE", fmt.Sprintf("the value is larger than %d bytes", j.o.MaxCellBytes), key, "shorten it, or raise dataset.max_cell_bytes")
		}
		if !ok {
			return j.badJSON(&p, key, atEnd)
		}
		if nested && !slices.Contains(j.o.Nested, key) {
			return j.fault(CodeNested, fmt.Sprintf("the value is %s; only text, numbers, true, false and null are read", kindOf(value)), key, "flatten it, for instance with jq: "+Flatten(key))
		}
		if nested && j.o.Canonical {
			value = canonical(value)
		}
		if strings.IndexByte(value, 0) >= 0 {
			return j.fault("NUL_BYTE", `the value holds a zero byte (\u0000)`, key, "remove it; text has no zero bytes")
		}
		if at >= 0 {
			if j.set[at] {
				return j.fault("DUPLICATE_COLUMN", "the key stands twice in one object", key, "rename or delete one of them")
			}
			j.set[at], j.cells[at] = true, value
		}
		if p.space(); p.peek() == ',' {
			p.i++
			if p.space(); p.peek() == '}' {
				return j.badJSON(&p, key, atEnd)
			}
		} else if p.peek() != '}' {
			return j.badJSON(&p, key, atEnd)
		}
	}
	p.i++
	if p.space(); p.i < len(line) {
		return j.fault("BAD_JSON", fmt.Sprintf("more stands behind the object, from character %d: %q", p.i+1, clip(line[p.i:])), "", "one JSON object a line, and nothing else")
	}
	return nil
}

// CodeNested is the error of an object or list where a text is read. Whoever knows what the
// column is for has better advice than to flatten it.
const CodeNested = "NESTED_VALUE"

// Flatten is the command that makes the values of key texts.
func Flatten(key string) string {
	return fmt.Sprintf("jq -c '.[%q] |= tostring' FILE > NEW.jsonl", key)
}

func (j *jsonlReader) reset() {
	for i := range j.cells {
		j.cells[i], j.set[i] = "", false
	}
}

// slot is the key's column, or -1 for a key that came too late to be one.
func (j *jsonlReader) slot(key string, grow bool) int {
	if i, ok := j.index[key]; ok {
		return i
	}
	if !grow || len(j.columns) > maxColumns {
		if len(j.ignored) < 100 {
			if j.ignored == nil {
				j.ignored = map[string]bool{}
			}
			j.ignored[strings.Clone(key)] = true
		}
		return -1
	}
	key = strings.Clone(key)
	j.index[key] = len(j.columns)
	j.columns = append(j.columns, key)
	j.cells = append(j.cells, "")
	j.set = append(j.set, false)
	return len(j.columns) - 1
}

// columnAt names the key before the first byte of line that is no text.
func (j *jsonlReader) columnAt(line string) string {
	bad := len(strings.ToValidUTF8(line, ""))
	for i, r := range line {
		if r == '\uFFFD' || r == 0 {
			bad = i
			break
		}
	}
	p := objectParser{s: line[:min(bad, len(line))]}
	if p.peek() != '{' {
		return ""
	}
	p.i++
	for {
		p.space()
		key, ok := p.text()
		if !ok || !p.colon() {
			return ""
		}
		if _, _, ok := p.value(); !ok {
			return key
		}
		if p.space(); p.peek() != ',' {
			return ""
		}
		p.i++
	}
}

func (j *jsonlReader) notAnObject(line string) *contract.Error {
	if json.Valid([]byte(line)) {
		return j.fault("NOT_AN_OBJECT", fmt.Sprintf("the line is %s, not an object: %q", kindOf(line), clip(line)), "", `each line must be an object: {"text": "...", "label": "..."}`)
	}
	return j.badJSON(&objectParser{s: line}, "", false)
}

func (j *jsonlReader) badJSON(p *objectParser, key string, atEnd bool) *contract.Error {
	if p.i >= len(p.s) {
		if atEnd {
			return j.fault("TRUNCATED", "the file ends inside a JSON object", key, "the file is cut off: upload it again")
		}
		return j.fault("BAD_JSON", "the line ends inside a JSON object", key, "one JSON object a line; a line break inside a text is written \\n. If the objects stand on several lines: jq -c . FILE > NEW.jsonl")
	}
	return j.fault("BAD_JSON", fmt.Sprintf("the line is not valid JSON at character %d: %q", p.i+1, clip(p.s[p.i:])), key, "one JSON object a line; jq -c . FILE finds such places")
}

func kindOf(value string) string {
	switch value[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a text"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

// clip shortens a value of the file to what a message has room for.
func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// objectParser reads JSON values (RFC 8259) from the left; i stays at the first
// character that does not fit.
type objectParser struct {
	s string
	i int
}

func (p *objectParser) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *objectParser) space() {
	for p.i < len(p.s) && (p.s[p.i] == ' ' || p.s[p.i] == '\t' || p.s[p.i] == '\r' || p.s[p.i] == '\n') {
		p.i++
	}
}

func (p *objectParser) colon() bool {
	if p.space(); p.peek() != ':' {
		return false
	}
	p.i++
	p.space()
	return true
}

// value reads a value as a cell: text unquoted, null as nothing, a nested value
// as its JSON.
func (p *objectParser) value() (cell string, nested, ok bool) {
	from := p.i
	switch c := p.peek(); {
	case c == '"':
		cell, ok = p.text()
		return cell, false, ok
	case c == '{' || c == '[':
		ok = p.skipNested()
		return p.s[from:p.i], true, ok && json.Valid([]byte(p.s[from:p.i]))
	case c == 't':
		return "true", false, p.word("true")
	case c == 'f':
		return "false", false, p.word("false")
	case c == 'n':
		return "", false, p.word("null")
	}
	ok = p.number()
	return p.s[from:p.i], false, ok
}

func (p *objectParser) word(w string) bool {
	for k := range len(w) {
		if p.peek() != w[k] {
			return false
		}
		p.i++
	}
	return true
}

func (p *objectParser) digits() bool {
	from := p.i
	for p.i < len(p.s) && p.s[p.i] >= '0' && p.s[p.i] <= '9' {
		p.i++
	}
	return p.i > from
}

func (p *objectParser) number() bool {
	if p.peek() == '-' {
		p.i++
	}
	if p.peek() == '0' {
		p.i++
	} else if !p.digits() {
		return false
	}
	if p.peek() == '.' {
		p.i++
		if !p.digits() {
			return false
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.i++
		if c := p.peek(); c == '+' || c == '-' {
			p.i++
		}
		return p.digits()
	}
	return true
}

// text reads a string.
func (p *objectParser) text() (string, bool) {
	if p.peek() != '"' {
		return "", false
	}
	from, escaped := p.i, false
	for k := p.i + 1; k < len(p.s); k++ {
		switch c := p.s[k]; {
		case c == '"':
			p.i = k + 1
			if !escaped {
				return p.s[from+1 : k], true
			}
			var s string
			if json.Unmarshal([]byte(p.s[from:p.i]), &s) != nil {
				p.i = from
				return "", false
			}
			return s, true
		case c == '\\':
			escaped = true
			k++
		case c < ' ':
			p.i = k
			return "", false
		}
	}
	p.i = len(p.s)
	return "", false
}

// skipNested moves behind the bracket that closes the one at i.
func (p *objectParser) skipNested() bool {
	depth := 0
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case '"':
			if _, ok := p.text(); !ok {
				return false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		p.i++
		if depth == 0 {
			return true
		}
	}
	return false
}
