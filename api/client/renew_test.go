package client_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

// A call that waits for another's new token ends with its own context: getting one
// may take as long as the mesh is away.
func TestWhoWaitsForANewTokenLeavesWithItsContext(t *testing.T) {
	renewing, finish := make(chan struct{}), make(chan struct{})
	refusing := roundTrip(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusUnauthorized, Status: "401", Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})
	c := client.New(client.Config{Servers: []string{"http://nowhere"}, Token: "tm_old_secret", HTTP: &http.Client{Transport: refusing}, Retries: -1,
		Renew: func(context.Context) (string, error) {
			close(renewing)
			<-finish
			return "", errors.New("nobody answers")
		}})
	first := make(chan error, 1)
	go func() { _, err := c.Jobs(context.Background()); first <- err }()
	<-renewing
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	second := make(chan error, 1)
	go func() { _, err := c.Jobs(ctx); second <- err }()
	select {
	case err := <-second:
		var p *api.Problem
		if !errors.As(err, &p) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the call that waited ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a call waits for another's token beyond its own time")
	}
	close(finish)
	<-first
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
