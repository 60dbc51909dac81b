package simulation

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// The judge has to be able to fail: each of these rigs has a bug planted in it,
// and a few seeds of what would bring it out have to be enough to find it. The
// same plans break nothing where nothing is planted.
func TestPlantedBugsAreFound(t *testing.T) {
	if os.Getenv("TUNEMESH_SIMULATION_SEEDS") == "" {
		t.Skip("takes a minute with the race detector: make test-simulation does it")
	}
	for _, tt := range []struct {
		name   string
		broken func() plant
		kind   string        // of the fault that brings it out
		every  time.Duration // and how often it comes
		want   []string      // one of these is seen
	}{
		{"a crash takes fsynced entries along", func() plant { return plant{forgottenEntries: 8} }, killAll, 15 * time.Second, []string{"I1", "I9"}},
		{"a stale fence is accepted", func() plant { return plant{staleFences: true} }, cutAgent, 20 * time.Second, []string{"I3"}},
		{"each server answers reads", func() plant { return plant{staleReads: true} }, cutServers, 15 * time.Second, []string{"I9"}},
		{"a restarted agent forgets what runs", func() plant { return plant{forgetfulLauncher: true} }, killAgent, 10 * time.Second, []string{"I8"}},
		{"the event store loses lines", func() plant { return plant{drops: oneIn(20)} }, resetConns, 20 * time.Second, []string{"I5"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const seeds = 5
			for seed := range uint64(seeds) {
				p := newPlan(seed).with(tt.kind, tt.every)
				o := simulate(t, p, tt.broken())
				if v := saying(o.violations, tt.want); v != "" {
					t.Logf("found at seed %d: %s", seed, v)
					if o = simulate(t, p, plant{}); len(o.violations) > 0 {
						t.Errorf("without the bug, too: %s", strings.Join(o.violations, "\n"))
					}
					return
				}
			}
			t.Errorf("not found within %d seeds", seeds)
		})
	}
}

// with is the plan with one kind of fault alone, again and again.
func (p plan) with(kind string, every time.Duration) plan {
	r := rand.New(rand.NewPCG(p.seed, 2))
	p.faults = nil
	for at := every; at+every < p.length; at += every {
		f := fault{at: at, kind: kind, target: r.IntN(min(p.servers, p.agents)), holds: time.Second}
		f.other = (f.target + 1) % p.servers
		switch kind {
		case cutServers:
			f.holds = every / 2
		case cutAgent: // longer than a lease, and back before the next attempt is done
			f.holds = 22*time.Second + time.Duration(r.Int64N(int64(8*time.Second)))
		}
		p.faults = append(p.faults, f)
	}
	for i := range p.jobs {
		p.jobs[i].cancelAt = 0
		for k := range p.jobs[i].stages {
			p.jobs[i].stages[k] = plannedStage{lines: 12, pause: 2 * time.Second, ending: endsWell, bare: true}
			if kind == resetConns { // several lines in a batch
				p.jobs[i].stages[k].lines, p.jobs[i].stages[k].pause = 80, 300*time.Millisecond
			}
		}
	}
	return p
}

// saying returns a violation that begins with one of some words.
func saying(violations, words []string) string {
	for _, v := range violations {
		for _, w := range words {
			if strings.HasPrefix(v, w+":") {
				return v
			}
		}
	}
	return ""
}

// oneIn says true one in n times.
func oneIn(n int) func() bool {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, 1))
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(n) == 0
	}
}

// What a seed decides it decides alone: the size of the mesh, the jobs, and which
// faults come when.
func TestASeedIsAlwaysTheSamePlan(t *testing.T) {
	same := fmt.Sprintf("%+v", newPlan(7))
	if again := fmt.Sprintf("%+v", newPlan(7)); again != same {
		t.Errorf("one seed, two plans:\n%s\n%s", same, again)
	}
	if other := fmt.Sprintf("%+v", newPlan(8)); other == same {
		t.Error("two seeds, one plan")
	}
	kinds := map[string]bool{}
	for seed := range uint64(200) {
		for _, f := range newPlan(seed).faults {
			kinds[f.kind] = true
		}
	}
	if want := len(serverFaults) + len(netFaults) + len(agentFaults); len(kinds) != want {
		t.Errorf("200 seeds have faults of %d kinds, there are %d", len(kinds), want)
	}
}
