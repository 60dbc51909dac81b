package auth_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
)

type book map[string]api.Token

func (b book) Token(id string) (api.Token, error) {
	t, ok := b[id]
	if !ok {
		return t, errors.New("not there")
	}
	return t, nil
}

func TestAToken(t *testing.T) {
	secret, token := auth.NewToken("anna", api.RoleUser, time.Unix(1, 0))
	other, _ := auth.NewToken("ben", api.RoleAdmin, time.Unix(1, 0))
	if strings.Contains(string(token.Hash), secret) || len(token.Hash) != 32 || secret == other {
		t.Fatalf("token %+v", token)
	}
	b := book{token.ID: token}
	got, err := auth.Authenticate(b, secret)
	if err != nil || got.Name != "anna" || got.Role != api.RoleUser || got.Hash != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", other, secret + "x", secret[:len(secret)-1], strings.ToUpper(secret), "tm_" + token.ID + "_", "tm__", token.ID, strings.Repeat("x", 10000)} {
		if _, err := auth.Authenticate(b, bad); !errors.Is(err, auth.ErrBadToken) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	b["empty"] = api.Token{ID: "empty", Role: api.RoleAdmin}
	if _, err := auth.Authenticate(b, "tm_empty_x"); err == nil {
		t.Error("a token without a hash is accepted")
	}
}

func TestTheGuardRefusesWhatNoRuleAllows(t *testing.T) {
	b := book{}
	tokens := map[api.Role]string{}
	for _, role := range []api.Role{api.RoleAdmin, api.RoleUser, api.RoleViewer, api.RoleNode} {
		secret, token := auth.NewToken(string(role), role, time.Unix(1, 0))
		b[token.ID], tokens[role] = token, secret
	}
	mux := http.NewServeMux()
	for _, path := range []string{"/public", "/read", "/write", "/admin", "/node", "/forgotten"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Caller", auth.Caller(r.Context()).Name)
		})
	}
	h := auth.Guard{
		Rules:  auth.Rules{"GET /public": auth.Public, "GET /read": api.RoleViewer, "GET /write": api.RoleUser, "GET /admin": api.RoleAdmin, "GET /node": api.RoleNode},
		Tokens: b,
		Route:  func(r *http.Request) string { _, p := mux.Handler(r); return p },
		Refuse: func(w http.ResponseWriter, _ *http.Request, p *api.Problem) { w.WriteHeader(p.Status) },
	}.Wrap(mux)
	ask := func(path, token string) (int, string) {
		r := httptest.NewRequest("GET", path, nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Header().Get("Caller")
	}
	cases := []struct {
		path string
		role api.Role
		want int
	}{
		{"/public", "", 200}, {"/read", "", 401}, {"/admin", "", 401}, {"/forgotten", api.RoleAdmin, 403}, {"/nowhere", "", 404},
		{"/read", api.RoleViewer, 200}, {"/write", api.RoleViewer, 403}, {"/admin", api.RoleUser, 403}, {"/write", api.RoleUser, 200},
		{"/write", api.RoleAdmin, 200}, {"/admin", api.RoleAdmin, 200}, {"/node", api.RoleAdmin, 403}, {"/node", api.RoleNode, 200}, {"/read", api.RoleNode, 403},
	}
	for _, c := range cases {
		code, caller := ask(c.path, tokens[c.role])
		if code != c.want {
			t.Errorf("%s as %q: %d, want %d", c.path, c.role, code, c.want)
		}
		if code == 200 && c.path != "/public" && caller != string(c.role) {
			t.Errorf("%s as %q: the caller is %q", c.path, c.role, caller)
		}
	}
	if code, _ := ask("/read", "tm_nobody_secret"); code != 401 {
		t.Errorf("an unknown token: %d", code)
	}
	// As it is printed in a cluster with TLS.
	whole := api.JoinToken{CA: make([]byte, 32), Role: api.RoleViewer, Bearer: tokens[api.RoleViewer]}.String()
	if code, _ := ask("/read", whole); code != 200 {
		t.Errorf("a token with the trust that it carries: %d", code)
	}
	if code, _ := ask("/read", "M1abc"); code != 401 {
		t.Errorf("half a token: %d", code)
	}
}
