package contract_test

import (
	"errors"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

func TestAnUnknownFieldIsNamedByItsPath(t *testing.T) {
	for data, want := range map[string]string{
		`{"nope":1}`:                                    "nope",
		`{"training":{"rank":4,"nope":3}}`:              "training.nope",
		`{"task":"qa","export":{"gguf":[],"x":{}}}`:     "export.x",
		`{"training":{"nope":{"training":{"rank":1}}}}`: "training.nope",
	} {
		_, err := contract.ParseConfig([]byte(data), true)
		var field contract.FieldError
		if !errors.As(err, &field) || field.Field != want {
			t.Errorf("%s: %v, want the field %s", data, err, want)
		}
	}
}
