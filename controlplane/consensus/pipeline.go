package consensus

import (
	"sync"

	"github.com/hashicorp/raft"
)

// networkTransport is Raft's, with pipelines that end when their reader does. Raft's
// reader of answers goes away at the first refusal, a follower's that lacks an
// entry say; its sender may meanwhile send once more, and then waits for ever for
// the reader to make room. The leader's heartbeats to that follower go on, so that
// it gets no entry any more and never calls an election, until the leader is
// killed: its own Shutdown waits for the sender too (raft#612, open in v1.8.0; the
// simulation met it).
type networkTransport struct{ *raft.NetworkTransport }

// AppendEntriesPipeline implements raft.Transport.
func (t networkTransport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &pipeline{AppendPipeline: inner, answers: make(chan raft.AppendFuture), closed: make(chan struct{})}
	p.passing.Go(p.pass)
	return p, nil
}

// pipeline passes answers on, and closes the one below behind a refusal.
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	closed  chan struct{}
	once    sync.Once
	passing sync.WaitGroup
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

func (p *pipeline) pass() {
	for {
		var f raft.AppendFuture
		select {
		case f = <-p.AppendPipeline.Consumer():
		case <-p.closed:
			return
		}
		// What Raft's reader makes of an answer: these are its last.
		last := !f.Response().Success || f.Response().Term > f.Request().Term
		select {
		case p.answers <- f:
		case <-p.closed:
			return
		}
		if last {
			_ = p.AppendPipeline.Close() // whoever sends is refused now
			return
		}
	}
}

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	err := p.AppendPipeline.Close()
	p.passing.Wait()
	return err
}
