// Package ordered does work in parallel and hands the results on in the order in
// which the work came, with a bounded number of pieces under way. It knows nothing
// of what the work is.
package ordered

import (
	"context"
	"sync"
)

type job[I, O any] struct {
	in  I
	out chan result[O]
}

type result[O any] struct {
	value O
	err   error
}

// Map calls source, whose yield hands over one piece of work, calls work on the
// pieces in as many goroutines as workers says, and sink on the results, one at a
// time and in order, in the caller's goroutine. The first error ends all and is
// returned; so does the end of ctx. All goroutines have ended when Map returns.
func Map[I, O any](ctx context.Context, workers int, source func(yield func(I) error) error, work func(I) (O, error), sink func(O) error) error {
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	workers = max(1, workers)
	jobs := make(chan job[I, O], workers)
	order := make(chan chan result[O], 2*workers)
	var sourceErr error // written before order is closed, read after
	wg.Go(func() {
		defer close(order)
		defer close(jobs)
		sourceErr = source(func(in I) error {
			out := make(chan result[O], 1)
			select {
			case order <- out:
			case <-ctx.Done():
				return ctx.Err()
			}
			select {
			case jobs <- job[I, O]{in, out}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	for range workers {
		wg.Go(func() {
			for j := range jobs {
				if ctx.Err() != nil {
					return
				}
				value, err := work(j.in)
				j.out <- result[O]{value, err}
			}
		})
	}
	for out := range order {
		var r result[O]
		select {
		case r = <-out:
		case <-ctx.Done():
			return ctx.Err()
		}
		if r.err != nil {
			return r.err
		}
		if err := sink(r.value); err != nil {
			return err
		}
	}
	if sourceErr != nil {
		return sourceErr
	}
	return outer.Err()
}
