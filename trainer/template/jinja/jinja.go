package jinja

import (
	"errors"
	"fmt"
	"strings"
	"time"

	lib "github.com/ardanlabs/jinja"
)

// Limits of a template. Those of the source are checked by Parse, the others while it
// renders. The largest template in use has 20 KiB of source and takes some 200 KiB of
// work for a short conversation.
const (
	// MaxSource is the size of the source in bytes.
	MaxSource = 128 << 10
	// MaxTag is the length of one tag in bytes, the texts in quotes left out.
	MaxTag = 2 << 10
	// MaxNesting is how deep blocks, and brackets in a tag, may be nested.
	MaxNesting = 64
	// MaxDepth is how deep macros may call each other.
	MaxDepth = 64
	// MaxGrowth is by how much the joining and replacing in one tag may lengthen what it
	// is given.
	MaxGrowth = 1 << 10
	// MaxRange is the longest range().
	MaxRange = 10_000
	// MaxValue is the size of one value in bytes: of a text, or of all that a list holds;
	// twice the size of the variables comes on top.
	MaxValue = 1 << 20
	// MaxWork bounds time and memory of one rendering. A pass through a loop or a macro
	// costs 64 and the length of its body, a value that is written or kept its size; 16
	// times the size of the variables comes on top.
	MaxWork = 64 << 20
)

// Template is a parsed template, safe for concurrent use.
type Template struct{ compiled *lib.Template }

// RefusedError is what a template says by raise_exception: it does not want these
// messages.
type RefusedError struct{ Message string }

func (e *RefusedError) Error() string { return "the template refuses the messages: " + e.Message }

// Parse reads a template.
func Parse(source string) (t *Template, err error) {
	defer recovered(&err)
	guarded, err := guard(source)
	if err != nil {
		return nil, fmt.Errorf("jinja: %w", err)
	}
	compiled, err := lib.Compile(guarded)
	if err != nil {
		return nil, fmt.Errorf("jinja: %w", err)
	}
	return &Template{compiled}, nil
}

// Render gives the text. A value of vars is a bool, an int, a float64, a string, nil (none), a
// []any or a map[string]any of such. now is what strftime_now tells.
func (t *Template) Render(vars map[string]any, now time.Time) (text string, err error) {
	defer recovered(&err)
	m := &meter{}
	values := make(map[string]lib.Value, len(vars)+8)
	for name, v := range vars {
		values[name] = lib.FromGoValue(v)
	}
	size := 0
	for _, v := range values {
		n, err := sizeOf(v, 64<<20, 0)
		if err != nil {
			return "", fmt.Errorf("jinja: the variables: %w", err)
		}
		size += n
	}
	m.work, m.value = MaxWork+16*size, MaxValue+2*size
	for name, f := range map[string]func([]lib.Value, map[string]lib.Value) (lib.Value, error){
		fnTick: m.tick, fnEnter: m.enter, fnLeave: m.leave, fnKeep: m.keep, fnWrite: m.write,
		"range": m.rangeOf,
		"raise_exception": func(args []lib.Value, _ map[string]lib.Value) (lib.Value, error) {
			e := &RefusedError{}
			if len(args) > 0 {
				e.Message = args[0].String()
				if args[0].IsString() {
					e.Message = args[0].AsString()
				}
			}
			return lib.Undefined(), e
		},
		"strftime_now": func(args []lib.Value, _ map[string]lib.Value) (lib.Value, error) {
			if len(args) != 1 || !args[0].IsString() {
				return lib.Undefined(), errors.New("strftime_now takes one text")
			}
			text, err := strftime(args[0].AsString(), now)
			return lib.NewString(text), err
		},
	} {
		values[name] = lib.NewCallable(name, f)
	}
	text, err = t.compiled.RenderValues(values)
	if err != nil {
		return "", fmt.Errorf("jinja: %w", err)
	}
	return text, nil
}

// recovered makes an error of a panic in the interpreter.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("jinja: the interpreter gave up: %v", p)
	}
}

// strftime knows the directives of the C locale that dates in templates use.
func strftime(format string, t time.Time) (string, error) {
	layouts := map[byte]string{'Y': "2006", 'm': "01", 'd': "02", 'B': "January", 'b': "Jan", 'A': "Monday", 'a': "Mon", 'y': "06", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'F': "2006-01-02", 'T': "15:04:05", 'j': "002", 'e': "_2"}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		if format[i] == '%' {
			b.WriteByte('%')
			continue
		}
		layout, ok := layouts[format[i]]
		if !ok {
			return "", fmt.Errorf("strftime_now: the directive %%%c is not known", format[i])
		}
		b.WriteString(t.Format(layout))
	}
	return b.String(), nil
}
