package jsonfault_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/jsonfault"
)

type example struct {
	Size  int `json:"size"`
	Inner struct {
		Rate  *float64       `json:"rate"`
		On    bool           `json:"on"`
		Names []string       `json:"names"`
		Map   map[string]int `json:"map"`
	} `json:"inner"`
}

// A person reads the line, the key, what is there and what has to be, and no word of Go.
func TestAFaultIsSaidInWordsOfTheFile(t *testing.T) {
	for text, want := range map[string]string{
		"{\n\"size\": \"192\"}":    "line 2: size is a text in quotes, but has to be a whole number",
		`{"size": 1.5}`:            "size is a number, but has to be a whole number",
		`{"inner":{"rate":[1]}}`:   "inner.rate is a list, but has to be a number",
		`{"inner":{"on":{}}}`:      "inner.on is an object, but has to be true or false",
		`{"inner":{"names":true}}`: "inner.names is true or false, but has to be a list",
		`{"inner":{"names":[1]}}`:  "inner.names is a number, but has to be a text in quotes",
		`{"inner":{"map":1}}`:      "inner.map is a number, but has to be an object",
		`[]`:                       "what stands there is a list, but has to be an object",
		"{\n\n\"size\": 1,}":       "line 3: no JSON",
		`{"size":`:                 "line 1: no JSON (unexpected end of JSON input)",
		" \n":                      "it is empty",
	} {
		var into example
		err := jsonfault.Explain([]byte(text), json.Unmarshal([]byte(text), &into))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if err := jsonfault.Explain(nil, json.Unmarshal([]byte(`{"size":[]}`), &example{})); err == nil || !strings.HasPrefix(err.Error(), "size is a list") {
		t.Errorf("of a part: %v", err)
	}
	other := errors.New("another")
	if err := jsonfault.Explain([]byte("{}"), other); err != other {
		t.Errorf("%v", err)
	}
	if err := jsonfault.Explain(nil, nil); err != nil {
		t.Errorf("%v", err)
	}
	text := []byte(`{"size": "192"}`)
	var kind *json.UnmarshalTypeError
	if err := jsonfault.Explain(text, json.Unmarshal(text, &example{})); !errors.As(err, &kind) {
		t.Errorf("%v has lost its cause", err)
	}
}
