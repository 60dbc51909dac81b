package client

import (
	"errors"
	"io"
	"sync"
)

// lent is a body that one try of a request may read until it is taken back. The
// transport goes on reading a body for a moment after it has returned an answer
// that came early (net/http, RoundTripper), and the next try reads the same bytes
// from their start.
type lent struct {
	mu   sync.Mutex
	body io.Reader
	back bool
}

var errTakenBack = errors.New("the request that this body was for is over")

// Read implements io.Reader.
func (l *lent) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.back {
		return 0, errTakenBack
	}
	return l.body.Read(p)
}

// takeBack returns when nobody reads the body any more, nor ever will. It waits for
// a read that is under way.
func (l *lent) takeBack() {
	l.mu.Lock()
	l.back = true
	l.mu.Unlock()
}
