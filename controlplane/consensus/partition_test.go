package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

func (s *stream) setCut(cut bool) {
	s.mu.Lock()
	s.cut = cut
	s.mu.Unlock()
	s.hangUp()
}

// A leader that is cut off must not acknowledge a write nor answer a read from
// the past, from the first moment on; what the others acknowledge meanwhile is
// there after the network has healed, on all.
func TestALeaderThatIsCutOffAcknowledgesNothingAndAnswersNothingOld(t *testing.T) {
	t.Parallel()
	var nodes []*Node
	for i := range 3 {
		n, err := Open(Config{ID: fmt.Sprintf("s%d", i), Dir: t.TempDir(), Bind: "127.0.0.1:0", Bootstrap: i == 0,
			HeartbeatTimeout: 1500 * time.Millisecond, ApplyTimeout: 3 * time.Second,
			Fatal: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}()
		nodes = append(nodes, n)
	}
	old := nodes[0]
	<-old.LeadershipChanges()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for _, n := range nodes[1:] {
		if err := old.AddVoter(ctx, state.Server{ID: n.ID(), RaftAddress: n.RaftAddress()}); err != nil {
			t.Fatal(err)
		}
	}
	write := func(n *Node, id string) error {
		_, err := n.Apply(ctx, state.CreateDataset{Dataset: api.Dataset{ID: id, SHA256: "x"}})
		return err
	}
	if err := write(old, "before"); err != nil {
		t.Fatal(err)
	}

	old.stream.setCut(true)
	var readers sync.WaitGroup
	stop := make(chan struct{})
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := old.ConsistentRead(ctx); err == nil {
				t.Error("a leader without a quorum answered a read")
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	if err := write(old, "lost"); !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, ErrNotLeader) {
		t.Errorf("a write on the leader that is cut off: %v", err)
	}
	var next *Node
	select {
	case <-nodes[1].LeadershipChanges():
		next = nodes[1]
	case <-nodes[2].LeadershipChanges():
		next = nodes[2]
	case <-ctx.Done():
		t.Fatal("no new leader")
	}
	if err := write(next, "during"); err != nil {
		t.Fatal(err)
	}
	close(stop)
	readers.Wait()

	old.stream.setCut(false)
	// Another entry, so that all have one index to compare at.
	for write(next, "after") != nil && ctx.Err() == nil {
		// The return of the old leader may cost an election.
		for _, n := range nodes {
			if n.IsLeader() {
				next = n
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, n := range nodes {
		for {
			_, err := n.Store().Dataset("after")
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("%s never caught up", n.ID())
			}
			time.Sleep(10 * time.Millisecond)
		}
		for _, id := range []string{"before", "during"} {
			if _, err := n.Store().Dataset(id); err != nil {
				t.Errorf("%s lost an acknowledged write: %v", n.ID(), err)
			}
		}
		if _, err := n.Store().Dataset("lost"); err == nil {
			t.Errorf("%s has a write that only the cut-off leader had", n.ID())
		}
	}
}
