//go:build linux

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// answer is one HTTP answer, or what stands in for it.
type answer struct {
	status int
	body   []byte
	// refused: the server surely did nothing. unknown: nobody can tell.
	refused, unknown bool
	err              error
}

// ask sends one request to one server, once. The client of the product would
// repeat it and hide what the test wants to see.
func (m *mesh) ask(ctx context.Context, token, server, method, path string, body any, limit time.Duration) answer {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		reader = bytes.NewReader(b)
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return answer{err: err, refused: true}
		}
		reader = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, server+path, reader)
	if err != nil {
		return answer{err: err, refused: true}
	}
	if t, err := api.ParseToken(token); err == nil && token != "" {
		req.Header.Set("Authorization", "Bearer "+t.Bearer)
	}
	if _, raw := body.([]byte); raw {
		req.Header.Set("Content-Type", "application/octet-stream")
	} else if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := m.http.Do(req)
	if err != nil {
		var op *net.OpError
		refused := errors.As(err, &op) && op.Op == "dial"
		return answer{err: err, refused: refused, unknown: !refused}
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		// The status said what happened; what it came to is lost.
		return answer{err: err, unknown: true}
	}
	if a.status/100 == 2 {
		return a
	}
	var p api.Problem
	_ = json.Unmarshal(a.body, &p)
	p.Status = a.status
	a.err = &p
	switch {
	case a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests:
		a.unknown = p.Outcome == "unknown"
		a.refused = !a.unknown
	case a.status/100 == 5:
		a.unknown = true
	}
	return a
}

// decode reads an answer's body.
func decode[T any](a answer) (T, error) {
	var out T
	if a.err != nil {
		return out, a.err
	}
	if err := json.Unmarshal(a.body, &out); err != nil {
		return out, fmt.Errorf("decode answer: %w", err)
	}
	return out, nil
}
