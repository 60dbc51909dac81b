package kernel_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every index is taken once, calls come one after the other, and a worker
// number is never used by two calls at a time.
func TestParallelCallsEachIndexOnce(t *testing.T) {
	for _, procs := range []int{1, 2, 7} {
		old := runtime.GOMAXPROCS(procs)
		e := kernel.New(kernel.Best())
		busy := make([]atomic.Int32, procs)
		round := func(n int) {
			seen := make([]atomic.Int32, n)
			e.Parallel(n, func(w, i int) {
				if busy[w].Add(1) != 1 {
					t.Errorf("worker %d runs two calls at a time", w)
				}
				seen[i].Add(1)
				busy[w].Add(-1)
			})
			for i := range seen {
				if seen[i].Load() != 1 {
					t.Fatalf("index %d of %d ran %d times", i, n, seen[i].Load())
				}
			}
		}
		for n := range 40 {
			round(n)
		}
		e.With(func() {
			for i := range 3000 {
				round(i % 17)
				if i%500 == 0 {
					time.Sleep(time.Millisecond) // long enough for workers to fall asleep
				}
			}
			e.With(func() { round(50) })
		})
		round(9)
		runtime.GOMAXPROCS(old)
	}
}

// A panic in f must not leave workers behind.
func TestWithEndsItsWorkersWhenItPanics(t *testing.T) {
	e := kernel.New(kernel.Best())
	func() {
		defer func() { _ = recover() }()
		e.With(func() { panic("f") })
	}()
	n := 0
	e.Parallel(1, func(int, int) { n++ })
	if n != 1 {
		t.Errorf("afterwards %d calls of 1", n)
	}
}
