package ordered_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/trainer/ordered"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func count(n int) func(func(int) error) error {
	return func(yield func(int) error) error {
		for i := range n {
			if err := yield(i); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestResultsComeInOrder(t *testing.T) {
	next := 0
	err := ordered.Map(context.Background(), 8, count(1000), func(i int) (int, error) {
		if i%7 == 0 {
			time.Sleep(time.Microsecond * time.Duration(i%13))
		}
		return i * i, nil
	}, func(v int) error {
		if v != next*next {
			t.Fatalf("got %d in place %d", v, next)
		}
		next++
		return nil
	})
	if err != nil || next != 1000 {
		t.Fatalf("%d results, %v", next, err)
	}
}

func TestFewPiecesAreUnderWay(t *testing.T) {
	var made, done atomic.Int64
	err := ordered.Map(context.Background(), 2, func(yield func(int) error) error {
		for i := range 200 {
			if ahead := made.Add(1) - done.Load(); ahead > 20 {
				t.Errorf("%d pieces under way", ahead)
			}
			if err := yield(i); err != nil {
				return err
			}
		}
		return nil
	}, func(i int) (int, error) { return i, nil }, func(int) error {
		time.Sleep(50 * time.Microsecond)
		done.Add(1)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheFirstErrorEndsAll(t *testing.T) {
	bad := errors.New("bad")
	id := func(i int) (int, error) { return i, nil }
	none := func(int) error { return nil }
	forever := count(1 << 40)
	if err := ordered.Map(context.Background(), 4, forever, func(i int) (int, error) {
		if i == 50 {
			return 0, bad
		}
		return i, nil
	}, none); !errors.Is(err, bad) {
		t.Errorf("of work: %v", err)
	}
	if err := ordered.Map(context.Background(), 4, forever, id, func(i int) error {
		if i == 50 {
			return bad
		}
		return nil
	}); !errors.Is(err, bad) {
		t.Errorf("of sink: %v", err)
	}
	if err := ordered.Map(context.Background(), 4, func(func(int) error) error { return bad }, id, none); !errors.Is(err, bad) {
		t.Errorf("of source: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := ordered.Map(ctx, 4, forever, id, none); !errors.Is(err, context.Canceled) {
		t.Errorf("of the context: %v", err)
	}
}
