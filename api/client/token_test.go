package client_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

// A server that dies with the answer makes the client ask again, by the same key,
// so that one token is made; another call is another token.
func TestATokenIsAskedForAgainByTheSameKey(t *testing.T) {
	var mu sync.Mutex
	var keys []string
	unknown := refuse(http.StatusServiceUnavailable, api.Problem{Outcome: "unknown"})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		n := len(keys)
		mu.Unlock()
		if n == 1 {
			unknown(w, r)
			return
		}
		answer(api.TokenReply{Token: "tm_a_b"})(w, r)
	}))
	defer s.Close()
	c := client.New(client.Config{Servers: []string{s.URL}})
	defer c.Close()
	for range 2 {
		if got, err := c.CreateToken(t.Context(), api.TokenRequest{Role: api.RoleUser}); err != nil || got.Token != "tm_a_b" {
			t.Fatalf("%+v %v", got, err)
		}
	}
	if len(keys) != 3 || len(keys[0]) < 20 || keys[0] != keys[1] || keys[1] == keys[2] {
		t.Errorf("keys %q", keys)
	}
}
