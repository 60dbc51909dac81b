package auth

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// Public is the rule of a route that needs no token.
const Public api.Role = "public"

// Peer is the rule of a route for other servers alone, which are known by
// Guard.Peer and have no token.
const Peer api.Role = "peer"

// NodeOrUser is the rule of a route for agents, joining ones too, and for people
// who may submit jobs.
const NodeOrUser api.Role = "node or user"

// Allows says whether a token of a role may pass a route's rule; those without
// tokens are not asked.
func Allows(role, need api.Role) bool {
	if need == NodeOrUser {
		return role.Allows(api.RoleNode) || role.Allows(api.RoleUser)
	}
	return role.Allows(need)
}

// Rules say which role a route needs, by its pattern ("GET /v1/jobs/{id}"). A
// route without a rule is refused to everybody.
type Rules map[string]api.Role

// Guard stands in front of the routes.
type Guard struct {
	Rules  Rules
	Tokens Tokens
	// Route returns the pattern that serves a request, empty for none.
	Route func(*http.Request) string
	// Refuse answers a request that may not pass.
	Refuse func(http.ResponseWriter, *http.Request, *api.Problem)
	// Peer says whether a server of the cluster calls; nil: there are none.
	Peer func(*http.Request) bool
	// Clock tells whether a token has ended; nil takes the system's.
	Clock func() time.Time
}

// Wrap lets requests through to next that their rule allows. A request that no
// route serves passes too, to get its 404.
func (g Guard) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pattern := g.Route(r)
		if pattern == "" {
			next.ServeHTTP(w, r)
			return
		}
		need, ok := g.Rules[pattern]
		if !ok {
			g.Refuse(w, r, &api.Problem{Type: api.ProblemForbidden, Status: http.StatusForbidden, Title: "Forbidden", Detail: "nobody may use this route: it has no rule"})
			return
		}
		if need == Public {
			next.ServeHTTP(w, r)
			return
		}
		if need == Peer {
			if g.Peer == nil || !g.Peer(r) {
				g.Refuse(w, r, &api.Problem{Type: api.ProblemForbidden, Status: http.StatusForbidden, Title: "Forbidden", Detail: "this is for servers of the cluster: do both have the same cluster secret?"})
				return
			}
			next.ServeHTTP(w, r)
			return
		}
		raw, err := Bearer(r.Header.Get("Authorization"))
		var token api.Token
		if err == nil {
			token, err = Authenticate(g.Tokens, raw)
		}
		if err == nil && token.Expired(g.now()) {
			err = fmt.Errorf("%w: it expired at %s", ErrBadToken, token.ExpiresAt.UTC().Format(time.RFC3339))
		}
		if err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="tunemesh"`)
			g.Refuse(w, r, &api.Problem{Type: api.ProblemUnauthorized, Status: http.StatusUnauthorized, Title: "Unauthorized", Detail: err.Error(), Hint: "send a token: tunemesh --token, or the environment variable TUNEMESH_TOKEN"})
			return
		}
		if !Allows(token.Role, need) {
			g.Refuse(w, r, &api.Problem{Type: api.ProblemForbidden, Status: http.StatusForbidden, Title: "Forbidden", Detail: "this needs the role " + string(need) + ", the token has the role " + string(token.Role)})
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, token)))
	})
}

func (g Guard) now() time.Time {
	if g.Clock == nil {
		return time.Now()
	}
	return g.Clock()
}

type callerKey struct{}

// Caller returns whose token a request carried; the zero token for none.
func Caller(ctx context.Context) api.Token {
	t, _ := ctx.Value(callerKey{}).(api.Token)
	return t
}
