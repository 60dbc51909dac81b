package contract

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// unknownPath is the path of the first field that Config does not have, since
// encoding/json names only its last part. If it is not found, name stands for it.
func unknownPath(data []byte, name string) string {
	if path := unknownIn(data, reflect.TypeFor[Config]()); path != "" {
		return path
	}
	return name
}

func unknownIn(data []byte, t reflect.Type) string {
	var members map[string]json.RawMessage
	if t.Kind() != reflect.Struct || json.Unmarshal(data, &members) != nil {
		return ""
	}
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		field, ok := t.FieldByNameFunc(func(goName string) bool {
			f, _ := t.FieldByName(goName)
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			return strings.EqualFold(tag, name)
		})
		if !ok {
			return name
		}
		if path := unknownIn(members[name], field.Type); path != "" {
			return name + "." + path
		}
	}
	return ""
}
