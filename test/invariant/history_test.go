package invariant

import (
	"math"
	"testing"

	"github.com/anishathalye/porcupine"
)

// The checker has to be able to fail: each of these histories has a violation
// planted in it, or is its innocent twin.
func TestTheCheckerFindsPlantedViolations(t *testing.T) {
	const never = math.MaxInt64
	op := func(from, to int64, in Input, out Output) porcupine.Operation {
		return porcupine.Operation{ClientId: int(from), Call: from, Return: to, Input: in, Output: out}
	}
	job := func(kind string) Input { return Input{Kind: kind, Key: "job/1"} }
	register := func(kind string, v bool) Input { return Input{Kind: kind, Key: "node/1", Value: v} }
	created := Output{Status: 201, Phase: pending, Index: 10}
	tests := []struct {
		name    string
		history []porcupine.Operation
		good    bool
	}{
		{"an acknowledged job is there", []porcupine.Operation{op(1, 2, job(Create), created), op(3, 4, job(Get), Output{Status: 200, Phase: running, Index: 11})}, true},
		{"an acknowledged job is lost", []porcupine.Operation{op(1, 2, job(Create), created), op(3, 4, job(Get), Output{Status: 404})}, false},
		{"a job of unknown outcome may never have been made", []porcupine.Operation{op(1, never, job(Create), Output{Unknown: true}), op(3, 4, job(Get), Output{Status: 404})}, true},
		{"a job of unknown outcome does not come and go", []porcupine.Operation{op(1, never, job(Create), Output{Unknown: true}), op(3, 4, job(Get), Output{Status: 200, Phase: pending, Index: 10}), op(5, 6, job(Get), Output{Status: 404})}, false},
		{"one id makes one job", []porcupine.Operation{op(1, 2, job(Create), created), op(3, 4, job(Create), Output{Status: 201, Phase: pending, Index: 12})}, false},
		{"a repeat is told so", []porcupine.Operation{op(1, 2, job(Create), created), op(3, 4, job(Create), Output{Status: 200, Phase: pending, Index: 10})}, true},
		{"a read is older than one before it", []porcupine.Operation{op(1, 2, job(Create), created), op(3, 4, job(Get), Output{Status: 200, Phase: running, Index: 14}), op(5, 6, job(Get), Output{Status: 200, Phase: running, Index: 12})}, false},
		{"a job runs again after its end", []porcupine.Operation{op(1, 2, job(Create), created), op(3, 4, job(Get), Output{Status: 200, Phase: succeeded, Index: 14}), op(5, 6, job(Get), Output{Status: 200, Phase: running, Index: 15})}, false},
		{"an acknowledged cancel is undone", []porcupine.Operation{op(1, 2, job(Create), created), op(3, 4, job(Cancel), Output{Status: 200, Phase: cancelled, Index: 12}), op(5, 6, job(Get), Output{Status: 200, Phase: succeeded, Index: 15})}, false},
		{"a refused cancel leaves an end that is no cancel", []porcupine.Operation{op(1, 2, job(Create), created), op(3, 4, job(Cancel), Output{Status: 409}), op(5, 6, job(Get), Output{Status: 200, Phase: succeeded, Index: 12})}, true},
		{"a refused cancel and yet cancelled", []porcupine.Operation{op(1, 2, job(Create), created), op(3, 4, job(Cancel), Output{Status: 409}), op(5, 6, job(Get), Output{Status: 200, Phase: cancelled, Index: 12})}, false},
		{"a write is read", []porcupine.Operation{op(1, 2, register(Write, true), Output{Status: 200}), op(3, 4, register(Read, false), Output{Status: 200, Value: true, Index: 3})}, true},
		{"a write is not read", []porcupine.Operation{op(1, 2, register(Write, true), Output{Status: 200}), op(3, 4, register(Read, false), Output{Status: 200, Value: false, Index: 3})}, false},
		{"two overlapping writes end either way", []porcupine.Operation{op(1, 5, register(Write, true), Output{Status: 200}), op(2, 4, register(Write, false), Output{Status: 200}), op(6, 7, register(Read, false), Output{Status: 200, Value: true, Index: 3})}, true},
		{"a write of unknown outcome lands late", []porcupine.Operation{op(1, 2, register(Write, true), Output{Status: 200}), op(3, never, register(Write, false), Output{Unknown: true}), op(4, 5, register(Read, false), Output{Status: 200, Value: true, Index: 3}), op(6, 7, register(Read, false), Output{Status: 200, Value: false, Index: 4})}, true},
		{"a write of unknown outcome lands twice", []porcupine.Operation{op(1, 2, register(Write, true), Output{Status: 200}), op(3, never, register(Write, false), Output{Unknown: true}), op(4, 5, register(Read, false), Output{Status: 200, Value: false, Index: 4}), op(6, 7, register(Write, true), Output{Status: 200}), op(8, 9, register(Read, false), Output{Status: 200, Value: false, Index: 6})}, false},
	}
	for _, tt := range tests {
		h := &History{ops: tt.history}
		if faults := h.Check(0); (len(faults) == 0) != tt.good {
			t.Errorf("%s: the checker says %q", tt.name, faults)
		}
	}
}
