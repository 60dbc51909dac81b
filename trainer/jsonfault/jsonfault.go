// Package jsonfault says what is wrong with a JSON file in words for who wrote or fetched it:
// the line, the key and what should stand there, where encoding/json speaks of Go's types.
//
// The package knows no file: its callers say which one it is.
package jsonfault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Explain rewrites an error of encoding/json about data; others, and nil, it gives back. Of a
// part of a file, whose lines are not the file's, data is nil.
func Explain(data []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case data != nil && len(bytes.TrimSpace(data)) == 0:
		return errors.New("it is empty: fetch the file again")
	case errors.As(err, &syntax):
		return fmt.Errorf("%sno JSON (%w): correct the file or fetch it again", at(data, syntax.Offset), err)
	case errors.As(err, &kind):
		what, _, _ := strings.Cut(kind.Value, " ")
		key := kind.Field
		if key == "" {
			key = "what stands there"
		}
		return &typeFault{fmt.Sprintf("%s%s is %s, but has to be %s: correct the file or fetch it again", at(data, kind.Offset), key, is(what), wants(kind.Type)), err}
	}
	return err
}

// typeFault hides encoding/json's words and keeps its error.
type typeFault struct {
	text string
	err  error
}

func (f *typeFault) Error() string { return f.text }
func (f *typeFault) Unwrap() error { return f.err }

func at(data []byte, offset int64) string {
	if data == nil {
		return ""
	}
	return fmt.Sprintf("line %d: ", 1+bytes.Count(data[:max(0, min(offset, int64(len(data))))], []byte("\n")))
}

// is names what encoding/json found.
func is(value string) string {
	switch value {
	case "bool":
		return "true or false"
	case "array":
		return "a list"
	case "object":
		return "an object"
	case "string":
		return "a text in quotes"
	}
	return "a " + value
}

// wants names what a Go type is read from.
func wants(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text in quotes"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "a whole number within bounds"
}
