package load

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

// fleet is many simulated nodes. They speak the agents' protocol and start
// nothing: an assignment is reported as running, and as succeeded if finish is
// set.
type fleet struct {
	server    *server
	transport *http.Transport
	cores     int
	finish    bool
	// placed gets each new assignment with the time at which it came.
	placed func(a api.Assignment, at time.Time)
	// run, if set, runs each new assignment.
	run func(ctx context.Context, n *node, a api.Assignment)

	nodes  []*node
	loops  sync.WaitGroup
	cancel context.CancelFunc
}

type node struct {
	id       string
	digest   string
	c        *client.Client
	interval time.Duration
	seen     map[uint64]bool
	die      context.CancelFunc // it falls silent

	mu     sync.Mutex
	fences []uint64 // what it says it runs
}

// size reads how large a run shall be.
func size(name string, small int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return small
}

// join enrols and registers n nodes of so many cores, 64 at a time. They are not
// alive before beat.
func join(b testing.TB, s *server, n, cores int) *fleet {
	b.Helper()
	if err := raiseFiles(); err != nil {
		b.Fatal(err)
	}
	f := &fleet{server: s, transport: transport(), cores: cores, nodes: make([]*node, n)}
	token := s.token(b, "node.token")
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(64)
	for i := range n {
		group.Go(func() (err error) {
			f.nodes[i], err = f.join(ctx, token, i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(f.leave)
	return f
}

func (f *fleet) join(ctx context.Context, token string, i int) (*node, error) {
	seed := sha256.Sum256([]byte(strconv.Itoa(i)))
	key := ed25519.NewKeyFromSeed(seed[:])
	public := key.Public().(ed25519.PublicKey)
	sum := sha256.Sum256(public)
	n := &node{id: "n-" + hex.EncodeToString(sum[:])[:12], digest: "load", seen: map[uint64]bool{}}
	name := fmt.Sprintf("load-%d", i)
	c := f.server.client(token, f.transport)
	challenge, err := c.Challenge(ctx, n.id)
	if err != nil {
		return nil, err
	}
	reply, err := c.Enrol(ctx, n.id, api.EnrolRequest{Name: name, PublicKey: public, Challenge: challenge.Challenge,
		Signature: ed25519.Sign(key, api.EnrolMessage(n.id, challenge.Challenge))})
	if err != nil {
		return nil, err
	}
	n.c = f.server.client(reply.Credential, f.transport)
	registered, err := n.c.Register(ctx, n.id, api.Registration{Name: name, PublicKey: public, Digest: n.digest, Version: "load", Protocol: api.ProtocolVersion,
		Capability: api.Capability{OS: "linux", Arch: "amd64", CPU: api.CPU{Model: "simulated", Cores: f.cores}, MemoryBytes: 64 << 30, DiskBytes: 1 << 40,
			Engines: []api.Engine{{Name: "native", Available: true, Devices: []string{"cpu"}}}, Launchers: []string{"local"}}})
	n.interval = registered.HeartbeatInterval
	return n, err
}

// beat makes the nodes alive: heartbeats, spread over the interval after the
// first, and a long poll each.
func (f *fleet) beat() {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	for _, n := range f.nodes {
		ctx, die := context.WithCancel(ctx)
		n.die = die
		f.loops.Go(func() { f.heartbeats(ctx, n) })
		f.loops.Go(func() { f.polls(ctx, n) })
	}
}

func (f *fleet) leave() {
	if f.cancel != nil {
		f.cancel()
		f.loops.Wait()
	}
	f.transport.CloseIdleConnections()
}

func (f *fleet) heartbeats(ctx context.Context, n *node) {
	pause := time.Duration(rand.Float64() * float64(n.interval))
	for ctx.Err() == nil {
		n.mu.Lock()
		fences := n.fences
		n.mu.Unlock()
		reply, err := n.c.Heartbeat(ctx, n.id, api.Heartbeat{Digest: n.digest, Fences: fences})
		if err == nil && reply.HeartbeatInterval > n.interval {
			n.interval = reply.HeartbeatInterval
			pause = time.Duration(rand.Float64() * float64(n.interval))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = n.interval
	}
}

func (f *fleet) polls(ctx context.Context, n *node) {
	var index uint64
	for ctx.Err() == nil {
		set, err := n.c.Assignments(ctx, n.id, index, 55*time.Second)
		if err != nil {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			continue
		}
		index = set.Index
		at := time.Now()
		fences := make([]uint64, len(set.Attempts))
		for i, a := range set.Attempts {
			fences[i] = a.Fence
		}
		n.mu.Lock()
		n.fences = fences
		n.mu.Unlock()
		for _, a := range set.Attempts {
			if n.seen[a.Fence] {
				continue
			}
			n.seen[a.Fence] = true
			if f.placed != nil {
				f.placed(a, at)
			}
			if f.run != nil {
				f.loops.Go(func() { f.run(ctx, n, a) })
			}
			if f.finish {
				_ = n.c.ReportAttempt(ctx, a.Fence, api.AttemptReport{State: api.AttemptSucceeded, Output: []byte(`{}`)})
			}
		}
	}
}
