package dispatch_test

import (
	"testing"
	"time"
)

// A disk that hung for a moment holds up what waited for it, and not what comes
// after it: people watch these events.
func TestASlowEventLogDelaysNoLaterStateChange(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.log.mu.Lock()
		r.log.took = 20 * time.Second
		r.log.mu.Unlock()
		r.job("j1", stage("a", "custom"))
		time.Sleep(21 * time.Second)
		r.job("j2", stage("a", "custom"))
		time.Sleep(time.Second)
		r.settle()
		r.log.mu.Lock()
		defer r.log.mu.Unlock()
		if len(r.log.lines["j1"]) == 0 || len(r.log.lines["j2"]) == 0 {
			t.Errorf("%d events of the first job, %d of the second", len(r.log.lines["j1"]), len(r.log.lines["j2"]))
		}
	})
}
