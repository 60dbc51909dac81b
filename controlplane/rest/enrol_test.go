package rest_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

// machine is a workstation with a key, as an agent has it.
type machine struct {
	id  string
	key ed25519.PrivateKey
}

func newMachine(t *testing.T) machine {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(public)
	return machine{id: "n-" + hex.EncodeToString(sum[:])[:12], key: key}
}

func (w machine) enrol(t *testing.T, m *mesh, token, name string, change ...func(*api.EnrolRequest)) (api.EnrolReply, error) {
	t.Helper()
	c := m.with(token)
	challenge, err := c.Challenge(t.Context(), w.id)
	if err != nil {
		return api.EnrolReply{}, err
	}
	r := api.EnrolRequest{Name: name, PublicKey: w.key.Public().(ed25519.PublicKey), Challenge: challenge.Challenge, Signature: ed25519.Sign(w.key, api.EnrolMessage(w.id, challenge.Challenge))}
	for _, f := range change {
		f(&r)
	}
	return c.Enrol(t.Context(), w.id, r)
}

func (m *mesh) with(token string) *client.Client {
	return client.New(client.Config{Servers: []string{m.url}, Token: token, Retries: -1, HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
}

func (m *mesh) newToken(t *testing.T, r api.TokenRequest) api.TokenReply {
	t.Helper()
	reply, err := m.client(api.RoleAdmin).CreateToken(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func status(err error) int {
	var p *api.Problem
	if errors.As(err, &p) {
		return p.Status
	}
	return 0
}

func registration(w machine) api.Registration {
	return api.Registration{Name: "ws", PublicKey: w.key.Public().(ed25519.PublicKey), Capability: capability(), Digest: "d1", Version: "test", Protocol: api.ProtocolVersion}
}

func TestANodeIsItsKeyAndItsCredentialSpeaksForItAlone(t *testing.T) {
	m := newMesh(t)
	token := m.newToken(t, api.TokenRequest{Role: api.RoleNode, TTL: "1h", Uses: 2})
	a, b := newMachine(t), newMachine(t)
	first, err := a.enrol(t, m, token.Token, "ws-a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.enrol(t, m, token.Token, "ws-b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.with(first.Credential).Register(t.Context(), a.id, registration(a)); err != nil {
		t.Errorf("a node with its own credential: %v", err)
	}
	for what, err := range map[string]error{
		"another node's credential registers": second(m.with(other.Credential).Register(t.Context(), a.id, registration(a))),
		"another node's credential beats":     second(m.with(other.Credential).Heartbeat(t.Context(), a.id, api.Heartbeat{})),
		"another node's credential polls":     second(m.with(other.Credential).Assignments(t.Context(), a.id, 0, 0)),
		"the join token registers":            second(m.with(token.Token).Register(t.Context(), a.id, registration(a))),
	} {
		if status(err) != http.StatusForbidden {
			t.Errorf("%s: %v", what, err)
		}
	}

	// The same machine again, renamed and without a token: the same node, with a
	// new credential in place of the old one.
	again, err := a.enrol(t, m, "", "ws-renamed")
	if err != nil || again.Credential == first.Credential {
		t.Fatalf("a known key enrols again: %v", err)
	}
	if err := second(m.with(first.Credential).Heartbeat(t.Context(), a.id, api.Heartbeat{})); status(err) != http.StatusUnauthorized {
		t.Errorf("the credential before: %v", err)
	}
	nodes, err := m.client(api.RoleViewer).Nodes(t.Context())
	if err != nil || len(nodes) != 2 {
		t.Errorf("nodes: %+v, %v", nodes, err)
	}

	// Two uses were bought; a known key did not cost one.
	if _, err := newMachine(t).enrol(t, m, token.Token, "ws-c"); status(err) != http.StatusUnauthorized {
		t.Errorf("a third machine with a token for two: %v", err)
	}
	tokens, err := m.client(api.RoleAdmin).Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tk := range tokens {
		if tk.NodeID != "" && tk.NodeID != nodeName {
			t.Errorf("the list shows the credential of %s", tk.NodeID)
		}
		if tk.ID == token.Info.ID && len(tk.UsedBy) != 2 {
			t.Errorf("the token was used by %v", tk.UsedBy)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestEnrollingNeedsTheKeyAndAFreshChallengeAndAToken(t *testing.T) {
	now := time.Now()
	m := newMesh(t)
	token := m.newToken(t, api.TokenRequest{Role: api.RoleNode}).Token
	w, thief := newMachine(t), newMachine(t)
	viewer := m.newToken(t, api.TokenRequest{Role: api.RoleViewer}).Token
	server := m.newToken(t, api.TokenRequest{Role: api.RoleServer}).Token
	short := m.newToken(t, api.TokenRequest{Role: api.RoleNode, TTL: "1ns"}).Token
	revoked := m.newToken(t, api.TokenRequest{Role: api.RoleNode})
	if err := m.client(api.RoleAdmin).RevokeToken(t.Context(), revoked.Info.ID); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		token  string
		change func(*api.EnrolRequest)
		want   int
	}{
		"no token":               {"", nil, 401},
		"a viewer's token":       {viewer, nil, 401},
		"a server's token":       {server, nil, 401},
		"an expired token":       {short, nil, 401},
		"a revoked token":        {revoked.Token, nil, 401},
		"another key":            {token, func(r *api.EnrolRequest) { r.PublicKey = thief.key.Public().(ed25519.PublicKey) }, 422},
		"another key's mark":     {token, func(r *api.EnrolRequest) { r.Signature = ed25519.Sign(thief.key, api.EnrolMessage(w.id, r.Challenge)) }, 401},
		"an invented challenge":  {token, func(r *api.EnrolRequest) { r.Challenge = "AAAA" }, 401},
		"a challenge of another": {token, func(r *api.EnrolRequest) { r.Challenge = challengeOf(t, m, thief.id) }, 401},
		"no name":                {token, func(r *api.EnrolRequest) { r.Name = "" }, 422},
	} {
		var changes []func(*api.EnrolRequest)
		if c.change != nil {
			changes = append(changes, c.change)
		}
		if _, err := w.enrol(t, m, c.token, "ws", changes...); status(err) != c.want {
			t.Errorf("%s: %v, want %d", what, err, c.want)
		}
	}
	if nodes, err := m.client(api.RoleViewer).Nodes(t.Context()); err != nil || len(nodes) != 0 {
		t.Errorf("after all that was refused there are nodes: %+v, %v", nodes, err)
	}
	if _, err := w.enrol(t, m, token, "ws"); err != nil {
		t.Errorf("with all that it takes, %s later: %v", time.Since(now), err)
	}
}

func challengeOf(t *testing.T, m *mesh, id string) string {
	c, err := m.with("").Challenge(t.Context(), id)
	if err != nil {
		t.Error(err)
	}
	return c.Challenge
}

func TestAPendingNodeWaitsForApproval(t *testing.T) {
	m := newMesh(t)
	admin := m.client(api.RoleAdmin)
	if s, err := admin.SetClusterSettings(t.Context(), api.ClusterSettings{RequireApproval: true}); err != nil || !s.RequireApproval {
		t.Fatal(s, err)
	}
	w := newMachine(t)
	reply, err := w.enrol(t, m, m.newToken(t, api.TokenRequest{Role: api.RoleNode}).Token, "ws")
	if err != nil || reply.Approval != api.ApprovalPending {
		t.Fatalf("%+v, %v", reply, err)
	}
	// It may register and beat, so that an administrator sees what it is.
	if r, err := m.with(reply.Credential).Register(t.Context(), w.id, registration(w)); err != nil || r.Node.Approval != api.ApprovalPending {
		t.Errorf("a pending node registers: %+v, %v", r.Node, err)
	}
	for _, step := range []struct {
		do   func() (api.Node, error)
		want string
	}{
		{func() (api.Node, error) { return admin.ApproveNode(t.Context(), w.id) }, ""},
		{func() (api.Node, error) { return admin.RejectNode(t.Context(), w.id) }, api.ApprovalRejected},
		{func() (api.Node, error) { return admin.ApproveNode(t.Context(), w.id) }, ""},
	} {
		if n, err := step.do(); err != nil || n.Approval != step.want {
			t.Errorf("approval is %q, want %q: %v", n.Approval, step.want, err)
		}
	}
	if err := admin.RemoveNode(t.Context(), w.id); err != nil {
		t.Error(err)
	}
	if err := second(m.with(reply.Credential).Heartbeat(t.Context(), w.id, api.Heartbeat{})); status(err) != http.StatusUnauthorized {
		t.Errorf("a removed node's credential: %v", err)
	}
}

// A client that has no id to repeat may send a key: its repeat is the same job,
// with another body refused, and another caller's same key another job.
func TestAnIdempotencyKeyMakesARepeatTheSameJob(t *testing.T) {
	m := newMesh(t)
	d := upload(t, m.client(api.RoleUser), "x.csv", "text,label\na,b\n")
	post := func(role api.Role, key, name string) (int, api.JobDetail) {
		t.Helper()
		body, _ := json.Marshal(api.JobSpec{Dataset: d.ID, Name: name})
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, m.url+"/v1/jobs", bytes.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+m.tokens[role])
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", key)
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var out api.JobDetail
		_ = json.NewDecoder(resp.Body).Decode(&out)
		return resp.StatusCode, out
	}
	first, job := post(api.RoleUser, "k1", "a")
	again, same := post(api.RoleUser, "k1", "a")
	if first != 201 || again != 200 || job.ID != same.ID {
		t.Errorf("first %d %s, again %d %s", first, job.ID, again, same.ID)
	}
	if code, _ := post(api.RoleUser, "k1", "b"); code != 422 {
		t.Errorf("the same key with another body: %d", code)
	}
	if code, other := post(api.RoleAdmin, "k1", "a"); code != 201 || other.ID == job.ID {
		t.Errorf("another caller's same key: %d %s", code, other.ID)
	}
	for _, id := range []string{"01JDTEST", "../x", "81JDTEST000000000000000000", "01jdtest000000000000000000"} {
		if _, err := m.client(api.RoleUser).SubmitJob(t.Context(), api.JobSpec{ID: id, Dataset: d.ID}); status(err) != 422 {
			t.Errorf("the id %q: %v", id, err)
		}
	}
}
