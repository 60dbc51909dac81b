package jinja

import (
	"errors"
	"fmt"

	lib "github.com/ardanlabs/jinja"
)

// Names of the functions that guard writes into a template.
const (
	fnTick  = "__tm_tick"
	fnEnter = "__tm_enter"
	fnLeave = "__tm_leave"
	fnKeep  = "__tm_keep"
	fnWrite = "__tm_write"
)

// meter counts what one rendering costs. Its functions print nothing.
type meter struct {
	work  int // that is left
	value int // the largest value
	depth int // of macros
}

var errWork = fmt.Errorf("the template does more than %d MiB of work for these messages", MaxWork>>20)

func (m *meter) spend(n int) error {
	if m.work -= n; m.work < 0 {
		return errWork
	}
	return nil
}

// body spends the length of the body that args begin with.
func (m *meter) body(args []lib.Value) error { return m.spend(64 + int(args[0].AsInt())) }

func (m *meter) tick(args []lib.Value, _ map[string]lib.Value) (lib.Value, error) {
	return lib.NewBool(false), m.body(args)
}

// enter takes the length of a macro's body and its arguments.
func (m *meter) enter(args []lib.Value, _ map[string]lib.Value) (lib.Value, error) {
	if m.depth++; m.depth > MaxDepth {
		return lib.Undefined(), fmt.Errorf("macros call each other more than %d deep", MaxDepth)
	}
	err := m.body(args)
	if err == nil {
		err = m.sizes(args[1:])
	}
	return lib.NewBool(false), err
}

func (m *meter) leave([]lib.Value, map[string]lib.Value) (lib.Value, error) {
	m.depth--
	return lib.NewBool(false), nil
}

// keep looks at values that have got a name.
func (m *meter) keep(args []lib.Value, _ map[string]lib.Value) (lib.Value, error) {
	return lib.NewBool(false), m.sizes(args)
}

// write gives back the first argument, to be written; the others are lists that the
// same tag lengthened.
func (m *meter) write(args []lib.Value, _ map[string]lib.Value) (lib.Value, error) {
	if len(args) == 0 {
		return lib.Undefined(), errors.New("nothing to write")
	}
	return args[0], m.sizes(args)
}

func (m *meter) sizes(values []lib.Value) error {
	for _, v := range values {
		n, err := sizeOf(v, m.value, 0)
		if err == nil {
			err = m.spend(n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *meter) rangeOf(args []lib.Value, _ map[string]lib.Value) (lib.Value, error) {
	bounds := []int64{0, 0, 1}
	if len(args) < 1 || len(args) > 3 {
		return lib.Undefined(), errors.New("range takes one to three numbers")
	}
	for i, a := range args {
		if !a.IsInt() {
			return lib.Undefined(), errors.New("range takes whole numbers")
		}
		if len(args) == 1 {
			i = 1
		}
		bounds[i] = a.AsInt()
	}
	from, to, step := bounds[0], bounds[1], bounds[2]
	if step == 0 {
		return lib.Undefined(), errors.New("range: the step is 0")
	}
	var out []lib.Value
	for i := from; step > 0 && i < to || step < 0 && i > to; i += step {
		if len(out) == MaxRange {
			return lib.Undefined(), fmt.Errorf("range is longer than %d", MaxRange)
		}
		out = append(out, lib.NewInt(i))
	}
	return lib.NewList(out), m.spend(64 * len(out))
}

// sizeOf is the size of a value as text, more or less, with what it holds counted as
// often as it holds it. It fails above most bytes, and on what holds itself.
func sizeOf(v lib.Value, most, depth int) (int, error) {
	if depth > MaxNesting {
		return 0, fmt.Errorf("a value is nested more than %d deep", MaxNesting)
	}
	n := 16
	add := func(v lib.Value) error {
		more, err := sizeOf(v, most-n, depth+1)
		n += more
		return err
	}
	switch {
	case v.IsString():
		n += len(v.AsString())
	case v.IsList():
		for _, item := range v.AsList().Items {
			if err := add(item); err != nil {
				return n, err
			}
		}
	case v.IsDict():
		d := v.AsDict()
		for _, key := range d.Keys {
			n += len(key)
			if err := add(d.Data[key]); err != nil {
				return n, err
			}
		}
	}
	if n > most {
		return n, fmt.Errorf("a value in the template grows beyond %d MiB", MaxValue>>20)
	}
	return n, nil
}
