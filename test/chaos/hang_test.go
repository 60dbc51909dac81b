//go:build linux

package chaos

import (
	"testing"
	"time"
)

// T16: the leader's disk hangs in the middle of a write. Its heartbeats would go
// on and nobody else would be elected (raft#503): the server has to end itself,
// and another has to lead.
func TestADiskThatHangs(t *testing.T) {
	if !injectedBuild {
		t.Skip("needs the build that can be told to hang: TUNEMESH_CHAOS_TAG=1, or make test-chaos-long")
	}
	needsMesh(t)
	t.Parallel() // it waits
	m := start(t, shape{servers: 3, injected: true})
	s := newStorm(newWorkload(m, 1))
	s.register(t)
	leader := m.leader()
	if leader == nil {
		t.Fatal("nobody leads")
	}
	s.inject(leader, "fsync", "10m")
	began := time.Now()
	if _, ok := s.untilWrite(40 * time.Second); !ok {
		t.Fatal("no write is acknowledged while the old leader's disk hangs")
	}
	took := time.Since(began)
	s.inject(leader, "fsync", "")
	if len(leader.surprises()) == 0 {
		t.Error("the leader goes on with a disk that hangs")
	}
	t.Logf("disk hangs; next acknowledged write after %s; the old leader: %v", took.Round(time.Millisecond), leader.surprises())
	if took > 15*time.Second {
		t.Errorf("it took %s, want 15 s at most", took)
	}
	if err := m.awaitReady(60*time.Second, m.servers...); err != nil {
		t.Error(err)
	}
	for _, f := range s.equalStates() {
		t.Error(f)
	}
}
