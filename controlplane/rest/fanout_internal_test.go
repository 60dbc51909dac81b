package rest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A reader that waits for what another reads from a slow event store leaves with
// its own context, and the others get what was read.
func TestWhoWaitsForAnothersChunkMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, key := newFanout(), chunkKey{job: "j"}
		slow := func() (chunk, error) {
			time.Sleep(time.Minute)
			return chunk{data: []byte("x"), last: 1}, nil
		}
		never := func() (chunk, error) {
			t.Error("a chunk in the making is made twice")
			return chunk{}, nil
		}
		got := make(chan chunk, 2)
		go func() { c, _ := f.get(t.Context(), key, slow); got <- c }()
		synctest.Wait()
		go func() { c, _ := f.get(t.Context(), key, never); got <- c }()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := f.get(impatient, key, never); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("left after %s with %v", time.Since(began), err)
		}
		for range 2 {
			if c := <-got; c.last != 1 {
				t.Errorf("a patient reader got %+v", c)
			}
		}
	})
}
