package chaos

import (
	"math"
	"testing"

	"github.com/anishathalye/porcupine"
)

// The checker has to be able to fail: each of these histories has a violation
// planted in it, or is its innocent twin.
func TestTheCheckerFindsPlantedViolations(t *testing.T) {
	const never = math.MaxInt64
	op := func(from, to int64, in input, out output) porcupine.Operation {
		return porcupine.Operation{ClientId: int(from), Call: from, Return: to, Input: in, Output: out}
	}
	job := func(kind string) input { return input{kind: kind, key: "job/1"} }
	register := func(kind string, v bool) input { return input{kind: kind, key: "node/1", value: v} }
	created := output{status: 201, phase: pending, index: 10}
	tests := []struct {
		name    string
		history []porcupine.Operation
		good    bool
	}{
		{"an acknowledged job is there", []porcupine.Operation{op(1, 2, job(opCreate), created), op(3, 4, job(opGet), output{status: 200, phase: running, index: 11})}, true},
		{"an acknowledged job is lost", []porcupine.Operation{op(1, 2, job(opCreate), created), op(3, 4, job(opGet), output{status: 404})}, false},
		{"a job of unknown outcome may never have been made", []porcupine.Operation{op(1, never, job(opCreate), output{unknown: true}), op(3, 4, job(opGet), output{status: 404})}, true},
		{"a job of unknown outcome does not come and go", []porcupine.Operation{op(1, never, job(opCreate), output{unknown: true}), op(3, 4, job(opGet), output{status: 200, phase: pending, index: 10}), op(5, 6, job(opGet), output{status: 404})}, false},
		{"one id makes one job", []porcupine.Operation{op(1, 2, job(opCreate), created), op(3, 4, job(opCreate), output{status: 201, phase: pending, index: 12})}, false},
		{"a repeat is told so", []porcupine.Operation{op(1, 2, job(opCreate), created), op(3, 4, job(opCreate), output{status: 200, phase: pending, index: 10})}, true},
		{"a read is older than one before it", []porcupine.Operation{op(1, 2, job(opCreate), created), op(3, 4, job(opGet), output{status: 200, phase: running, index: 14}), op(5, 6, job(opGet), output{status: 200, phase: running, index: 12})}, false},
		{"a job runs again after its end", []porcupine.Operation{op(1, 2, job(opCreate), created), op(3, 4, job(opGet), output{status: 200, phase: succeeded, index: 14}), op(5, 6, job(opGet), output{status: 200, phase: running, index: 15})}, false},
		{"an acknowledged cancel is undone", []porcupine.Operation{op(1, 2, job(opCreate), created), op(3, 4, job(opCancel), output{status: 200, phase: cancelled, index: 12}), op(5, 6, job(opGet), output{status: 200, phase: succeeded, index: 15})}, false},
		{"a refused cancel leaves an end that is no cancel", []porcupine.Operation{op(1, 2, job(opCreate), created), op(3, 4, job(opCancel), output{status: 409}), op(5, 6, job(opGet), output{status: 200, phase: succeeded, index: 12})}, true},
		{"a refused cancel and yet cancelled", []porcupine.Operation{op(1, 2, job(opCreate), created), op(3, 4, job(opCancel), output{status: 409}), op(5, 6, job(opGet), output{status: 200, phase: cancelled, index: 12})}, false},
		{"a write is read", []porcupine.Operation{op(1, 2, register(opWrite, true), output{status: 200}), op(3, 4, register(opRead, false), output{status: 200, value: true, index: 3})}, true},
		{"a write is not read", []porcupine.Operation{op(1, 2, register(opWrite, true), output{status: 200}), op(3, 4, register(opRead, false), output{status: 200, value: false, index: 3})}, false},
		{"two overlapping writes end either way", []porcupine.Operation{op(1, 5, register(opWrite, true), output{status: 200}), op(2, 4, register(opWrite, false), output{status: 200}), op(6, 7, register(opRead, false), output{status: 200, value: true, index: 3})}, true},
		{"a write of unknown outcome lands late", []porcupine.Operation{op(1, 2, register(opWrite, true), output{status: 200}), op(3, never, register(opWrite, false), output{unknown: true}), op(4, 5, register(opRead, false), output{status: 200, value: true, index: 3}), op(6, 7, register(opRead, false), output{status: 200, value: false, index: 4})}, true},
		{"a write of unknown outcome lands twice", []porcupine.Operation{op(1, 2, register(opWrite, true), output{status: 200}), op(3, never, register(opWrite, false), output{unknown: true}), op(4, 5, register(opRead, false), output{status: 200, value: false, index: 4}), op(6, 7, register(opWrite, true), output{status: 200}), op(8, 9, register(opRead, false), output{status: 200, value: false, index: 6})}, false},
	}
	for _, tt := range tests {
		h := &history{ops: tt.history}
		if faults := h.check(0); (len(faults) == 0) != tt.good {
			t.Errorf("%s: the checker says %q", tt.name, faults)
		}
	}
}
