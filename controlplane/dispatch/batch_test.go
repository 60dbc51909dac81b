package dispatch_test

import (
	"fmt"
	"testing"

	"github.com/tunemesh/tunemesh/api"
)

// Many stages that become ready together are placed with few entries; while a
// server of before there were batches is a member, with one entry each.
func TestManyPlacementsAreOneEntry(t *testing.T) {
	const jobs, cores = 100, 40
	for _, c := range []struct {
		version int
		kind    string
		most    int
	}{{2, "place_attempt", 2 * cores}, {api.ProtocolVersion, "place_attempts", 4}} {
		inBubbleOf(t, c.version, func(r *rig) {
			for i := range jobs {
				r.job(fmt.Sprintf("j%03d", i), stage("a", "custom"))
			}
			r.beating("n1", cores)
			r.beating("n2", cores)
			r.settle()
			fences := map[uint64]bool{}
			for _, node := range []string{"n1", "n2"} {
				for _, a := range r.store.AttemptsOnNode(node) {
					fences[a.Fence] = true
				}
			}
			if len(fences) != 2*cores {
				t.Errorf("version %d: %d attempts with a fence of their own, want %d", c.version, len(fences), 2*cores)
			}
			if n := r.count(c.kind); n == 0 || n > c.most {
				t.Errorf("version %d: %d entries %s, want 1 to %d", c.version, n, c.kind, c.most)
			}
		})
	}
}
