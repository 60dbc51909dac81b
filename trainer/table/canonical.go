package table

import (
	"bytes"
	"encoding/json"
	"strings"
)

// canonical is a JSON value in one spelling: the keys of objects sorted, no white space,
// numbers as they stand, and few escapes. So two rows that mean
// the same have the same text, whichever program wrote them.
func canonical(value string) string {
	d := json.NewDecoder(strings.NewReader(value))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return value
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return value
	}
	return strings.TrimSuffix(b.String(), "\n")
}
