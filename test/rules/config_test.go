package rules

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

const configHead = `# Config of a job

A job's ` + "`config`" + ` is one JSON object; every field has a default. On the command line a field is set by its path: ` + "`--set training.rank=16`" + `. A field that does not exist, or has a value out of its range, is refused when the job is submitted. Where the pipeline has custom stages, other fields are left to them.

This page is made from the code: ` + "`TUNEMESH_UPDATE=1 go test ./test/rules`" + ` writes it anew.

| field | type | default | meaning |
|---|---|---|---|
`

var saysDefault = regexp.MustCompile(`[;:] default:? .*$`)

// describe writes a table row for each field of a config struct.
func describe(b *strings.Builder, prefix string, v reflect.Value, t *testing.T) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		name := prefix + strings.Split(field.Tag.Get("json"), ",")[0]
		if field.Type.Kind() == reflect.Struct {
			describe(b, name+".", v.Field(i), t)
			continue
		}
		doc := field.Tag.Get("doc")
		if doc == "" {
			t.Errorf("config field %s has no doc tag", name)
		}
		kind := field.Type.String()
		switch field.Type.Kind() {
		case reflect.Int, reflect.Int64, reflect.Uint64:
			kind = "integer"
		case reflect.Float64:
			kind = "number"
		case reflect.Slice:
			kind = "list of strings"
		}
		value := "-"
		if !v.Field(i).IsZero() {
			value = fmt.Sprintf("`%v`", v.Field(i).Interface())
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", name, kind, value, strings.ReplaceAll(saysDefault.ReplaceAllString(doc, ""), "|", "\\|"))
	}
}

func TestEveryConfigFieldIsDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString(configHead)
	describe(&b, "", reflect.ValueOf(contract.Config{}.WithDefaults()), t)
	const path = "../../docs/config.md"
	if os.Getenv("TUNEMESH_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Error("docs/config.md is not what the code says: run TUNEMESH_UPDATE=1 go test ./test/rules")
	}
}
