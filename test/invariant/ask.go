package invariant

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

// Answer is one HTTP answer, or what stands in for it.
type Answer struct {
	Status int
	Body   []byte
	// Refused: the server surely did nothing. Unknown: nobody can tell.
	Refused, Unknown bool
	Err              error
}

// Ask sends one request to one server, once. The client of the product would
// repeat it and hide what the test wants to see.
func Ask(ctx context.Context, hc *http.Client, token, server, method, path string, body any, limit time.Duration) Answer {
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
			return Answer{Err: err, Refused: true}
		}
		reader = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, server+path, reader)
	if err != nil {
		return Answer{Err: err, Refused: true}
	}
	if t, err := api.ParseToken(token); err == nil && token != "" {
		req.Header.Set("Authorization", "Bearer "+t.Bearer)
	}
	if _, raw := body.([]byte); raw {
		req.Header.Set("Content-Type", "application/octet-stream")
	} else if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := hc.Do(req)
	if err != nil {
		var op *net.OpError
		refused := errors.As(err, &op) && op.Op == "dial"
		return Answer{Err: err, Refused: refused, Unknown: !refused}
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode}
	if a.Body, err = io.ReadAll(resp.Body); err != nil {
		// The status said what happened; what it came to is lost.
		return Answer{Err: err, Unknown: true}
	}
	if a.Status/100 == 2 {
		return a
	}
	var p api.Problem
	_ = json.Unmarshal(a.Body, &p)
	p.Status = a.Status
	a.Err = &p
	switch {
	case a.Status == http.StatusServiceUnavailable || a.Status == http.StatusTooManyRequests:
		a.Unknown = p.Outcome == "unknown"
		a.Refused = !a.Unknown
	case a.Status/100 == 5:
		a.Unknown = true
	}
	return a
}

// Decode reads an answer's body.
func Decode[T any](a Answer) (T, error) {
	var out T
	if a.Err != nil {
		return out, a.Err
	}
	if err := json.Unmarshal(a.Body, &out); err != nil {
		return out, fmt.Errorf("decode answer: %w", err)
	}
	return out, nil
}
