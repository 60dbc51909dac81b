package rest_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/rest"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// keyed posts a request for a token with a key.
func (m *mesh) keyed(t *testing.T, bearer, key string, r api.TokenRequest) (int, api.TokenReply) {
	t.Helper()
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.url+"/v1/tokens", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out api.TokenReply
	_ = json.NewDecoder(resp.Body).Decode(&out)
	return resp.StatusCode, out
}

func TestARepeatedRequestForATokenGetsTheSameToken(t *testing.T) {
	for _, ring := range []bool{false, true} { // tunemesh dev has no keyring
		m := newMesh(t)
		if ring {
			if _, err := m.node.Apply(t.Context(), state.SetKeyring{Keyring: state.Keyring{CAKey: []byte("k"), GossipKey: []byte("g"), PeerSecret: "p"}}); err != nil {
				t.Fatal(err)
			}
		}
		admin := m.tokens[api.RoleAdmin]
		count := func() int {
			list, err := m.client(api.RoleAdmin).Tokens(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		before := count()
		request := api.TokenRequest{Role: api.RoleUser, Name: "anna", TTL: "24h"}
		code, first := m.keyed(t, admin, "k1", request)
		again, second := m.keyed(t, admin, "k1", request)
		if code != 201 || again != 200 || first.Token != second.Token || first.Info.ID != second.Info.ID || !first.Info.CreatedAt.Equal(second.Info.CreatedAt) {
			t.Errorf("ring %v: first %d %+v, again %d %+v", ring, code, first.Info, again, second.Info)
		}
		if _, err := m.with(first.Token).Jobs(t.Context()); err != nil {
			t.Errorf("the token is not valid: %v", err)
		}
		for what, other := range map[string]api.TokenRequest{
			"role": {Role: api.RoleViewer, Name: "anna", TTL: "24h"}, "name": {Role: api.RoleUser, Name: "bert", TTL: "24h"},
			"ttl": {Role: api.RoleUser, Name: "anna", TTL: "25h"}, "no ttl": {Role: api.RoleUser, Name: "anna"}, "uses": {Role: api.RoleNode, Name: "anna", TTL: "24h", Uses: 2},
		} {
			if code, _ := m.keyed(t, admin, "k1", other); code != 422 {
				t.Errorf("the same key with another %s: %d", what, code)
			}
		}
		if n := count(); n != before+1 {
			t.Errorf("%d tokens were made", n-before)
		}

		// Another caller's same key is another token, and so is another key.
		secret, info := auth.NewToken("other", api.RoleAdmin, time.Now())
		if _, err := m.node.Apply(t.Context(), state.CreateToken{Token: info}); err != nil {
			t.Fatal(err)
		}
		if code, other := m.keyed(t, secret, "k1", request); code != 201 || other.Token == first.Token {
			t.Errorf("another caller's same key: %d", code)
		}
		if code, other := m.keyed(t, admin, "k2", request); code != 201 || other.Token == first.Token {
			t.Errorf("another key: %d", code)
		}

		// What was revoked stays so: the key makes another secret.
		if err := m.client(api.RoleAdmin).RevokeToken(t.Context(), first.Info.ID); err != nil {
			t.Fatal(err)
		}
		code, anew := m.keyed(t, admin, "k1", request)
		if code != 201 || anew.Token == first.Token {
			t.Errorf("after it was revoked: %d", code)
		}
		if _, err := m.with(first.Token).Jobs(t.Context()); status(err) != http.StatusUnauthorized {
			t.Errorf("a revoked token is valid again: %v", err)
		}
		if _, err := m.with(anew.Token).Jobs(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// Repeats beside each other make one token too, also where the clock stands.
func TestRepeatsAtTheSameTimeMakeOneToken(t *testing.T) {
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for name, change := range map[string]func(*rest.Config){
		"clock goes":   func(*rest.Config) {},
		"clock stands": func(c *rest.Config) { c.Clock = func() time.Time { return noon } },
	} {
		m := newMesh(t, change)
		var mu sync.Mutex
		seen, codes := map[string]bool{}, []int{}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				code, out := m.keyed(t, m.tokens[api.RoleAdmin], "k", api.TokenRequest{Role: api.RoleNode, Uses: 3})
				mu.Lock()
				defer mu.Unlock()
				seen[out.Token] = true
				codes = append(codes, code)
			})
		}
		all.Wait()
		slices.Sort(codes)
		if len(seen) != 1 || codes[6] != 200 || codes[7] != 201 {
			t.Errorf("%s: %d tokens, answers %v", name, len(seen), codes)
		}
		if code, _ := m.keyed(t, m.tokens[api.RoleAdmin], "k", api.TokenRequest{Role: api.RoleNode, Uses: 4}); code != 422 {
			t.Errorf("%s: another body: %d", name, code)
		}
	}
}

// The other POSTs that people and scripts repeat need no key.
func TestARepeatOfWhatNeedsNoKeyChangesNothing(t *testing.T) {
	m := newMesh(t)
	c := m.client(api.RoleAdmin)
	data := "text,label\na,b\n"
	one, err := c.UploadDataset(t.Context(), "x.csv", strings.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	two, err := c.UploadDataset(t.Context(), "x.csv", strings.NewReader(data), int64(len(data)))
	if err != nil || two.ID != one.ID || two.Index != one.Index {
		t.Errorf("the same bytes are %+v and %+v, %v", one, two, err)
	}
	job, err := c.SubmitJob(t.Context(), api.JobSpec{Dataset: one.ID})
	if err != nil {
		t.Fatal(err)
	}
	twice := func(what string, call func() (api.JobDetail, error)) {
		t.Helper()
		first, err := call()
		if err != nil {
			t.Fatal(what, err)
		}
		second, err := call()
		if err != nil || second.Index != first.Index || second.State != first.State {
			t.Errorf("%s again: %+v, first %+v, %v", what, second.Job, first.Job, err)
		}
	}
	twice("cancel", func() (api.JobDetail, error) { return c.CancelJob(t.Context(), job.ID, "enough") })
	twice("resume", func() (api.JobDetail, error) { return c.ResumeJob(t.Context(), job.ID) })
	join(t, m.client(api.RoleNode))
	first, err := c.DrainNode(t.Context(), nodeName, true)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := c.DrainNode(t.Context(), nodeName, true); err != nil || second.Index != first.Index {
		t.Errorf("drained twice: %d then %d, %v", first.Index, second.Index, err)
	}
}
