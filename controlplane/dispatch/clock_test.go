package dispatch_test

import (
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// Found by the chaos tests' clock jumps: a leader whose clock is an hour ahead
// says when a stage may be tried again, and dies; the next leader's clock is
// right. The stage waits for its backoff, not for the hour.
func TestABackoffOfAWrongClockEndsInTime(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.skew = time.Hour
		r.elect()
		r.beating("n1", 2)
		r.job("j", stage("a", "custom"))
		first := r.running("j", "a")
		r.report(first, broken("transient", true))
		wait := r.stage("j", "a").NotBefore.Sub(*r.stage("j", "a").ReadyAt)
		if wait <= 0 {
			t.Fatalf("no backoff: %s", wait)
		}
		r.skew = 0
		r.elect()
		r.beat("n1")
		r.pass(wait + 2*time.Second)
		if s := r.wantStage("j", "a", api.StageRunning); s.Fence == first {
			t.Fatal("the stage waits for the wrong clock")
		}
	})
}
