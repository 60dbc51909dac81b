package rest

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// hopHeader marks a request that another server passed on. Such a request is
// never passed on again.
const hopHeader = "Tunemesh-Forwarded"

// indexHeader says how far this server's state was when it began to answer.
const indexHeader = "Tunemesh-Index"

// contactHeader says, in an answer to ?stale, how many milliseconds ago this
// server last heard from its leader, so how old the answer may be: 0 on the
// leader itself, "never" where it has heard of none.
const contactHeader = "Tunemesh-Last-Contact-Ms"

func (s *Server) staleness() string {
	at := s.Raft.LastContact()
	if at.IsZero() {
		return "never"
	}
	return strconv.FormatInt(max(0, time.Since(at).Milliseconds()), 10)
}

// dialFunc opens a connection, as net.Dialer.DialContext does.
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// leaderProxy passes requests on to the leader.
type leaderProxy struct {
	raft      Raft
	transport *http.Transport
	proxy     *httputil.ReverseProxy
}

func newLeaderProxy(raft Raft, dial dialFunc, secure *tls.Config, log *slog.Logger) *leaderProxy {
	p := &leaderProxy{raft: raft, transport: &http.Transport{
		DialContext:         dial,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     60 * time.Second,
		DisableCompression:  true,
		TLSClientConfig:     secure,
		TLSHandshakeTimeout: 2 * time.Second,
	}}
	p.proxy = &httputil.ReverseProxy{
		Transport:     p.transport,
		FlushInterval: -1, // streams
		Rewrite: func(r *httputil.ProxyRequest) {
			target := r.In.Context().Value(leaderKey{}).(*url.URL)
			r.SetURL(target)
			r.SetXForwarded()
			r.Out.Header.Set(hopHeader, "1")
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			out := notLeader()
			var op *net.OpError
			if !(errors.As(err, &op) && op.Op == "dial") && r.Method != http.MethodGet && r.Method != http.MethodHead {
				out.Detail = "the leader was lost while it worked on this"
				out.Outcome = "unknown"
				out.Hint = "repeat the request with the same id"
			}
			writeProblem(w, r, &out.Problem)
		},
	}
	return p
}

func (p *leaderProxy) close() { p.transport.CloseIdleConnections() }

type leaderKey struct{}

// catchingUp is a Raft whose new leader has to apply first what earlier ones
// committed, as consensus.Node does. Until then its state lacks tokens, datasets
// and jobs that the mesh has acknowledged, and it must refuse nobody for want of
// them.
type catchingUp interface {
	// Leading returns once this server leads and has caught up.
	Leading(ctx context.Context) error
}

// toLeader passes requests on that only the leader can answer: all under /v1
// but what stays here, and but reads with ?stale. One hop at most.
func (s *Server) toLeader(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v1/") {
			next.ServeHTTP(w, r)
			return
		}
		here := func(r *http.Request) {
			w.Header().Set(indexHeader, strconv.FormatUint(s.Store.Index(), 10))
			next.ServeHTTP(w, r)
		}
		if isStale(r) {
			w.Header().Set(contactHeader, s.staleness())
			here(r.WithContext(context.WithValue(r.Context(), staleKey{}, true)))
			return
		}
		if staysHere(r.URL.Path) {
			here(r)
			return
		}
		if s.Raft.IsLeader() {
			if l, ok := s.Raft.(catchingUp); ok && l.Leading(r.Context()) != nil {
				writeProblem(w, r, &notLeader().Problem)
				return
			}
			here(r)
			return
		}
		leader, known := s.Raft.LeaderHTTP()
		target, err := url.Parse(leader)
		if !known || err != nil || target.Host == "" || r.Header.Get(hopHeader) != "" {
			writeProblem(w, r, &notLeader().Problem)
			return
		}
		w.Header().Del("X-Content-Type-Options") // the leader's answer has its own
		s.proxy.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), leaderKey{}, target)))
	})
}

// isStale says whether a read may be answered from this server's own state,
// however old.
func isStale(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	q := r.URL.Query()
	return q.Has("stale") && q.Get("stale") != "false"
}
