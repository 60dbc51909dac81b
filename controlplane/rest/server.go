package rest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// Raft proposes commands and says who leads. consensus.Node is one.
type Raft interface {
	Apply(ctx context.Context, c state.Command) (state.Result, error)
	// ConsistentRead returns once reads of the state see all that was
	// acknowledged before; on the leader alone.
	ConsistentRead(ctx context.Context) error
	// WaitIndex returns once this server's state holds an entry.
	WaitIndex(ctx context.Context, index uint64) error
	IsLeader() bool
	// LeaderHTTP is the base URL of the leader's API.
	LeaderHTTP() (string, bool)
	// LastContact is when this server last heard from its leader; zero: never.
	LastContact() time.Time
}

// Dispatch is what the leader's loop knows and takes.
type Dispatch interface {
	Heartbeat(nodeID string, h api.Heartbeat) (api.HeartbeatReply, error)
	Report(ctx context.Context, fence uint64, r api.AttemptReport) error
	WaitReason(jobID, stage string) string
	FillNode(n *api.Node)
}

// Objects is the object store. artifacts.Store is one.
type Objects interface {
	PutDataset(ctx context.Context, name string, r io.Reader, size int64) (api.Dataset, error)
	Get(ctx context.Context, bucket, key string) (io.ReadCloser, error)
	PresignGet(ctx context.Context, bucket, key string) (string, error)
	PresignPut(ctx context.Context, bucket, key string) (string, error)
	Verify(ctx context.Context, list []api.Artifact) error
	Ping(ctx context.Context) error
}

// Config wires a Server. All interfaces and Store are needed; zero values of
// the rest mean the defaults.
type Config struct {
	Raft     Raft
	Store    *state.Store
	Dispatch Dispatch
	Events   events.Log
	Objects  Objects

	// Cluster is what there is to do with the servers; nil leaves its routes out.
	Cluster Cluster
	// Snapshots takes and restores backups of the state; nil: this server does not.
	Snapshots Snapshots
	// PeerTLS is for requests that are passed on to the leader; nil: plain HTTP.
	PeerTLS *tls.Config
	// Dial opens the connections to the leader; TCP within 2 s by default.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Prepared says, on the leader, whether the mesh has what jobs need; nil means
	// always.
	Prepared func() bool
	// DefaultModel is the base model of jobs that name none.
	DefaultModel string
	Version      api.Version
	// HeartbeatInterval and LeaseTTL are told to agents; 5 s and 20 s.
	HeartbeatInterval, LeaseTTL time.Duration
	// PublicMetrics lets anybody read /metrics, without a token of role metrics.
	PublicMetrics bool
	// Gossip returns the peers and the keys that agents join the gossip with; the
	// first key is the one to send with.
	Gossip func() (peers []string, keys [][]byte)
	// MaxDatasetBytes bounds an upload; 100 GiB.
	MaxDatasetBytes int64
	// MaxStreams bounds the event streams that are open at once; 20,000.
	MaxStreams int
	// StreamHeartbeat is the time between comments on a silent stream; 15 s.
	StreamHeartbeat time.Duration
	// StreamWriteTime is how long one write to a stream may take; 5 s. A reader
	// that is slower is cut off and goes on from its Last-Event-ID.
	StreamWriteTime time.Duration
	// Registry gets this server's metrics and is served at /metrics; a new one
	// by default.
	Registry *prometheus.Registry
	Clock    func() time.Time
	Log      *slog.Logger
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.HeartbeatInterval, 5*time.Second)
	def(&c.LeaseTTL, 20*time.Second)
	def(&c.StreamHeartbeat, 15*time.Second)
	def(&c.StreamWriteTime, 5*time.Second)
	if c.MaxDatasetBytes == 0 {
		c.MaxDatasetBytes = 100 << 30
	}
	if c.MaxStreams == 0 {
		c.MaxStreams = 20_000
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: 2 * time.Second}).DialContext
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Server answers the API's requests. It starts nothing of its own.
type Server struct {
	Config
	mux     *http.ServeMux
	api     huma.API
	rules   auth.Rules
	metrics *metrics
	proxy   *leaderProxy
	// enrolments are those of nodes that want to join.
	enrolments *enrolment
	handler    http.Handler
	streams    chan struct{} // a place per open stream
	shapes     shapes        // of models, for plans

	life      context.Context // ends when streams and polls must end
	end       context.CancelFunc
	fanout    *fanout
	unpacker  unpacker
	reign     reign
	closeOnce sync.Once
}

// New returns a server whose Handler can be served.
func New(c Config) (*Server, error) {
	if c.Raft == nil || c.Store == nil || c.Dispatch == nil || c.Events == nil || c.Objects == nil {
		return nil, errors.New("rest: raft, store, dispatch, events and objects are needed")
	}
	s := &Server{Config: c.withDefaults(), mux: http.NewServeMux(), rules: auth.Rules{}, fanout: newFanout(), enrolments: newEnrolment()}
	var err error
	if s.unpacker, err = newUnpacker(maxFilesBody); err != nil {
		return nil, err
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.streams = make(chan struct{}, s.MaxStreams)
	if s.metrics, err = newMetrics(s.Registry, s.Version, s.endedLongAgo); err != nil {
		return nil, err
	}
	s.proxy = newLeaderProxy(s.Raft, s.Dial, s.PeerTLS, s.Log)
	s.api = humago.New(s.mux, apiConfig(s.Version.Version))
	s.routes()
	s.snapshotRoutes()
	s.planRoutes()
	s.describeProblems()
	if err := s.plainRoutes(); err != nil {
		return nil, err
	}
	guard := auth.Guard{Rules: s.rules, Tokens: s.Store, Route: s.route, Refuse: writeProblem, Clock: s.Clock}
	if s.Cluster != nil {
		guard.Peer = func(r *http.Request) bool { return s.Cluster.IsPeer(r.Header.Get(api.PeerHeader)) }
	}
	// From the outside in: measure, survive panics, hop to the leader, check the
	// caller, bound and read the body, route.
	h := s.readBody(s.notFound(s.mux))
	h = guard.Wrap(h)
	h = s.trace(s.toLeader(h))
	h = s.recoverPanics(h)
	s.handler = s.metrics.wrap(s.route, h)
	return s, nil
}

// Handler serves everything. The http.Server around it must have no
// WriteTimeout: streams and uploads set deadlines of their own.
func (s *Server) Handler() http.Handler { return s.handler }

// HTTPServer returns a server with the time-outs that Handler expects.
func (s *Server) HTTPServer() *http.Server { return NewHTTPServer(s.handler, s.Log) }

// NewHTTPServer is HTTPServer for another handler, with the same time-outs.
func NewHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// Close ends streams and long polls, so that http.Server.Shutdown need not wait
// for them.
func (s *Server) Close() {
	s.closeOnce.Do(s.end)
	s.proxy.close()
}

// route returns the pattern that serves a request.
func (s *Server) route(r *http.Request) string {
	_, pattern := s.mux.Handler(r)
	return pattern
}

// Rules returns the role that each route needs, by pattern.
func (s *Server) Rules() auth.Rules { return s.rules }

// bounded returns a context that also ends when the server closes.
func (s *Server) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.life, cancel)
	return ctx, func() { stop(); cancel() }
}
