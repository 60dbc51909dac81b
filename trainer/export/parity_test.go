package export

import (
	"errors"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// No input makes the stage write a wrong model, so the gate is tried by itself.
func TestTheGateRefusesAnotherModel(t *testing.T) {
	want := [][]float32{{1, 2, 10}, {-3, 4, 0}}
	for name, c := range map[string]struct {
		got  [][]float32
		pass bool
	}{
		"equal":       {[][]float32{{1, 2, 10}, {-3, 4, 0}}, true},
		"rounded":     {[][]float32{{1.01, 2.01, 9.99}, {-3.01, 4.01, 0}}, true},
		"one logit":   {[][]float32{{1, 2, 10}, {-3, 4, 1}}, false},
		"other order": {[][]float32{{10, 2, 1}, {-3, 4, 0}}, false},
		"no number":   {[][]float32{{1, 2, 10}, {nan(), 4, 0}}, false},
	} {
		p := compare(1, weights.BF16, limits[weights.BF16], want, c.got)
		err := p.check("merged")
		var fault *contract.Error
		if c.pass != (err == nil) || err != nil && (!errors.As(err, &fault) || fault.Code != "EXPORT_DIFFERS") {
			t.Errorf("%s: %v, parity %+v", name, err, p)
		}
	}
	if p := compare(1, weights.F32, limits[weights.F32], want, [][]float32{{1.1, 2, 10}, {-3, 4, 0}}); p.check("merged") == nil {
		t.Errorf("F32 passes with %+v", p)
	}
}

func nan() float32 { zero := float32(0); return zero / zero }
