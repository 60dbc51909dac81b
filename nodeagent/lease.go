package nodeagent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/nodeagent/capability"
)

// Defaults until the control plane has said otherwise.
const (
	defaultHeartbeat = 5 * time.Second
	defaultTTL       = 20 * time.Second
	// selfStopMargin is how long before the control plane gives an attempt to
	// another node the agent stops it.
	selfStopMargin = 30 * time.Second
)

// lease is what the agent knows of its right to run attempts. Times are those
// of the sending: the agent's clock then always runs out before the leader's.
type lease struct {
	now func() time.Time

	mu    sync.Mutex
	acked time.Time // sending of the last heartbeat that was acknowledged
	ttl   time.Duration
	every time.Duration // heartbeats, by the last answer; 0: it did not say
}

func newLease(now func() time.Time) *lease {
	return &lease{now: now, acked: now(), ttl: defaultTTL}
}

func (l *lease) renew(sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked = sent
}

func (l *lease) setTTL(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d > 0 {
		l.ttl = d
	}
}

// setPace notes when the next heartbeat is due.
func (l *lease) setPace(every time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.every = every
}

// pace is what the last answer said, or have.
func (l *lease) pace(have time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.every > 0 {
		return l.every
	}
	return have
}

// age is the time since the last heartbeat that was acknowledged.
func (l *lease) age() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now().Sub(l.acked)
}

// lapsed says whether an attempt with this disconnect grace must stop now.
func (l *lease) lapsed(grace time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.ttl + grace // before which the control plane does not place it anew
	if grace >= 2*selfStopMargin {
		// A mesh of many nodes has longer leases and rarer heartbeats.
		limit = grace - selfStopMargin + max(0, l.ttl-defaultTTL)
	}
	return l.now().Sub(l.acked) > limit
}

// keepLease registers the node and sends heartbeats. registered is closed after
// the first registration.
func (a *Agent) keepLease(ctx context.Context, registered chan<- struct{}) {
	var (
		interval = defaultHeartbeat
		capable  = a.detect(ctx)
		known    bool // this agent is registered with this capability
		failures int
	)
	// A broken driver can make a look take long: not at a heartbeat's cost.
	looks := make(chan api.Capability, 1)
	var looking sync.WaitGroup
	defer looking.Wait()
	looking.Go(func() { a.lookAgain(ctx, looks) })
	for ctx.Err() == nil {
		var err error
		select {
		case fresh := <-looks:
			known = known && capability.Digest(fresh) == capability.Digest(capable)
			capable = fresh
		default:
		}
		if !known {
			var reply api.RegistrationReply
			sent := time.Now()
			if reply, err = a.register(ctx, capable); err == nil {
				known = true
				a.lease.renew(sent)
				a.lease.setTTL(reply.LeaseTTL)
				if interval = a.cfg.HeartbeatInterval; interval == 0 {
					interval = reply.HeartbeatInterval
				}
				def(&interval, defaultHeartbeat)
				if a.cfg.OnRegistered != nil {
					a.cfg.OnRegistered(reply)
				}
				if registered != nil {
					close(registered)
					registered = nil
				}
			}
		}
		if known {
			known, err = a.heartbeat(ctx, capable, a.sampler.load())
			if a.cfg.HeartbeatInterval == 0 {
				interval = a.lease.pace(interval)
			}
		}
		pause := interval
		if err != nil || !known {
			if failures == 0 && ctx.Err() == nil {
				a.cfg.Logger.Warn("the control plane does not acknowledge this node; trying again", "error", err)
			}
			pause = min(a.backoff(failures), interval)
			failures++
		} else {
			if failures > 0 {
				a.cfg.Logger.Info("the control plane acknowledges this node", "failures", failures)
			}
			failures = 0
		}
		sleep(ctx, pause)
	}
}

// lookAgain detects the capability every so often: a driver comes and goes.
func (a *Agent) lookAgain(ctx context.Context, out chan<- api.Capability) {
	for sleep(ctx, a.cfg.DetectInterval) {
		select {
		case out <- a.detect(ctx):
		case <-ctx.Done():
		}
	}
}

func (a *Agent) detect(ctx context.Context) api.Capability {
	c := a.cfg.Detect(ctx, a.cfg.Dir)
	c.Launchers = []string{a.launcher.Name()}
	c.MetricsAddr = a.cfg.MetricsAddr
	return c
}

func (a *Agent) register(ctx context.Context, c api.Capability) (api.RegistrationReply, error) {
	return a.cp.Register(ctx, a.id.NodeID, api.Registration{
		Name: a.cfg.Name, PublicKey: a.id.Public(), Labels: a.cfg.Labels, Capability: c, Digest: capability.Digest(c),
		Version: a.cfg.Version, Protocol: api.ProtocolVersion,
	})
}

// heartbeat sends one; known is false if the control plane wants the node to
// register again.
func (a *Agent) heartbeat(ctx context.Context, c api.Capability, load api.NodeLoad) (known bool, err error) {
	sent := time.Now()
	fences := a.fences()
	slices.Sort(fences)
	h := api.Heartbeat{SentAt: sent.UTC(), Fences: fences, Digest: capability.Digest(c), Load: load, Version: a.cfg.Version}
	if a.cfg.GossipKeys != nil {
		h.GossipKeys = a.cfg.GossipKeys()
	}
	reply, err := a.cp.Heartbeat(ctx, a.id.NodeID, h)
	if err != nil {
		var p *api.Problem
		return !errors.As(err, &p) || p.Type != api.ProblemNotFound, err
	}
	a.lease.renew(sent)
	a.lease.setTTL(reply.LeaseTTL)
	a.lease.setPace(reply.HeartbeatInterval)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range reply.Stale {
		if r := a.runners[f]; r != nil {
			r.stop(reasonStale)
		}
	}
	return reply.Registered, nil
}

// watchLease stops attempts by the agent's own clock. It has its own goroutine
// because a heartbeat may hang for long exactly then.
func (a *Agent) watchLease(ctx context.Context) {
	for sleep(ctx, time.Second) {
		a.mu.Lock()
		for _, r := range a.runners {
			if a.lease.lapsed(r.as.Stage.DisconnectGrace()) {
				r.stop(reasonDisconnected)
			}
		}
		a.mu.Unlock()
	}
}
