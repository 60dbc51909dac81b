package contract

import (
	"encoding/json"
	"strings"
)

// given holds the paths of the fields that a config document has a value for,
// in lower case, since encoding/json takes names in any case. It tells a zero
// that the user wrote from a field that he left out.
type given map[string]bool

func (g given) has(path string) bool { return g[path] }

// Given says whether the config's document had a value for a field, such as
// training.rank: one that it leaves out has its default, and may follow from
// something else.
func (c Config) Given(path string) bool { return c.given.has(path) }

// givenIn lists the fields of a JSON object and of the objects in it.
func givenIn(data []byte) given {
	g := given{}
	g.walk("", data)
	return g
}

func (g given) walk(prefix string, data []byte) {
	var members map[string]json.RawMessage
	if json.Unmarshal(data, &members) != nil {
		return
	}
	for name, value := range members {
		path := prefix + strings.ToLower(name)
		switch {
		case string(value) == "null": // the same as nothing
		case len(value) > 0 && value[0] == '{':
			g.walk(path+".", value)
		default:
			g[path] = true
		}
	}
}

// def sets a field that is empty and was not given to its default.
func def[T comparable](g given, path string, field *T, value T) {
	var zero T
	if *field == zero && !g.has(path) {
		*field = value
	}
}

// text is def for text, where the empty one means the default too.
func text(field *string, value string) {
	if *field == "" {
		*field = value
	}
}
