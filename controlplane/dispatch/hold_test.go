package dispatch_test

import (
	"fmt"
	"testing"
	"time"
)

func TestNothingIsPlacedWhileSomethingHoldsItBack(t *testing.T) {
	const why = "the object store cannot be used"
	inBubble(t, func(r *rig) {
		r.beating("n1", 4)
		r.setHold(why)
		r.job("held", stage("a", "custom"))
		r.pass(time.Minute)
		if got := r.store.AttemptsOnNode("n1"); len(got) != 0 {
			t.Fatalf("placed: %+v", got)
		}
		if got := r.d.WaitReason("held", "a"); got != why {
			t.Errorf("waits for %q, want %q", got, why)
		}
		r.setHold("")
		r.pass(5 * time.Second)
		if got := r.store.AttemptsOnNode("n1"); len(got) != 1 {
			t.Errorf("%d attempts once nothing held it back", len(got))
		}

		// What waited for a node until now says at once what holds it back as well.
		for i := range 5 {
			r.job(fmt.Sprint("many", i), stage("a", "custom"))
		}
		if got := r.d.WaitReason("many4", "a"); got == "" || got == why {
			t.Fatalf("a stage without room waits for %q", got)
		}
		r.setHold(why)
		if got := r.d.WaitReason("many4", "a"); got != why {
			t.Errorf("waits for %q, want %q", got, why)
		}
		if got := r.d.WaitReason("held", "a"); got != "" {
			t.Errorf("a stage that runs waits for %q", got)
		}
	})
}
