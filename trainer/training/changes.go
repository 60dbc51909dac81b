package training

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxChanges bounds what one message lists.
const maxChanges = 3

// changes says which settings differ between two documents of identify:
// ": training.rank was 4 and is 8". It is empty where one of them is not known.
func changes(before, now []byte) string {
	was, is := fields(before), fields(now)
	if len(was) == 0 || len(is) == 0 {
		return ""
	}
	both := maps.Clone(was)
	maps.Copy(both, is)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(both)) {
		if was[name] != is[name] {
			list = append(list, fmt.Sprintf("%s was %s and is %s", name, said(was[name]), said(is[name])))
		}
	}
	if more := len(list) - maxChanges; more > 0 {
		list = append(list[:maxChanges], fmt.Sprintf("and %d more", more))
	}
	if len(list) == 0 {
		return ""
	}
	return ": " + strings.Join(list, ", ")
}

// fields are a document's values by the names that the config has for them.
func fields(document []byte) map[string]string {
	var d struct {
		Seed     json.RawMessage
		Training map[string]json.RawMessage
	}
	if json.Unmarshal(document, &d) != nil || d.Training == nil {
		return nil
	}
	out := map[string]string{"seed": string(d.Seed)}
	for name, value := range d.Training {
		out["training."+name] = string(value)
	}
	return out
}

// said is a value for people. The document leaves zeros out.
func said(value string) string {
	if value == "" {
		return "not set"
	}
	return value
}
