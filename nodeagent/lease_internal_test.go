package nodeagent

import (
	"testing"
	"time"
)

// A mesh of many nodes asks for rarer heartbeats and gives longer leases. The
// agent outlasts a heartbeat that was lost, and still stops before the control
// plane may give an attempt away, which is a lease and the grace after its last
// heartbeat arrived.
func TestALongerLeaseLetsAnAttemptRunLonger(t *testing.T) {
	now := time.Now()
	for _, ttl := range []time.Duration{20 * time.Second, 48 * time.Second, 80 * time.Second} {
		for _, grace := range []time.Duration{0, 59 * time.Second, time.Minute, 10 * time.Minute} {
			l := newLease(func() time.Time { return now })
			l.setTTL(ttl)
			l.setPace(ttl / 4)
			if every := l.pace(5 * time.Second); every != ttl/4 {
				t.Errorf("a heartbeat is due every %v, want %v", every, ttl/4)
			}
			l.setTTL(0) // an answer of an older server says nothing
			l.setPace(0)
			if every := l.pace(7 * time.Second); every != 7*time.Second {
				t.Errorf("a heartbeat is due every %v, want 7s", every)
			}
			sent := now
			now = sent.Add(ttl/4 + time.Second)
			if l.lapsed(grace) {
				t.Errorf("lease %v, grace %v: over after one heartbeat that was lost", ttl, grace)
			}
			now = sent.Add(ttl + grace + time.Second)
			if !l.lapsed(grace) {
				t.Errorf("lease %v, grace %v: runs on when another node may run it", ttl, grace)
			}
			now = sent.Add(ttl + grace - 20*time.Second)
			if grace >= 2*selfStopMargin && !l.lapsed(grace) {
				t.Errorf("lease %v, grace %v: no margin before another node may run it", ttl, grace)
			}
		}
	}
}
