package mesh

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// healWithin is what is promised of a partition that has healed.
const healWithin = 10 * time.Second

// fleet is members on one network: servers that know each other, and agents that
// were told of the servers.
type fleet struct {
	t       *testing.T
	network *network
	members map[string]*Mesh
}

func newFleet(t *testing.T, servers, agents int) *fleet {
	f := &fleet{t: t, network: newNetwork(), members: map[string]*Mesh{}}
	// A probe that is under way when its member shuts down ends by its time-out.
	t.Cleanup(func() { time.Sleep(time.Minute) })
	key := make([]byte, 32)
	var addresses []string
	for i := range servers {
		addresses = append(addresses, f.network.plug(fmt.Sprintf("s%d", i+1)).address())
	}
	for i := range servers {
		name := fmt.Sprintf("s%d", i+1)
		f.members[name] = f.network.open(t, addresses[i], Config{Name: name, Key: key, Peers: func() []string { return addresses }})
	}
	for i := range agents {
		f.join(fmt.Sprintf("a%d", i+1), addresses)
	}
	return f
}

// join starts an agent that was told of servers.
func (f *fleet) join(name string, servers []string) {
	f.t.Helper()
	f.members[name] = f.network.open(f.t, f.network.plug(name).address(), Config{Name: name, Key: make([]byte, 32), Join: servers})
}

// sees are the names that a member has in its list, which must be as long as
// memberlist's own.
func (f *fleet) sees(name string) []string {
	synctest.Wait()
	var out []string
	for _, m := range f.members[name].Members() {
		out = append(out, m.Name)
	}
	if n := f.members[name].list.NumMembers(); n != len(out) {
		f.t.Errorf("memberlist of %s has %d members, of which %v are shown", name, n, out)
	}
	return out
}

// await returns when every member's list is what want says, and after how long.
func (f *fleet) await(limit time.Duration, want func(name string) []string) time.Duration {
	f.t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		wrong := ""
		for name := range f.members {
			if got := f.sees(name); !slices.Equal(got, want(name)) {
				wrong = fmt.Sprintf("%s sees %v, want %v", name, got, want(name))
				break
			}
		}
		if wrong == "" {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			f.t.Fatalf("after %s %s", limit, wrong)
		}
	}
}

// within are those of the members that are on a member's side.
func (f *fleet) within(side func(string) int) func(string) []string {
	return func(name string) []string {
		var out []string
		for other := range f.members {
			if side(other) == side(name) {
				out = append(out, other)
			}
		}
		slices.Sort(out)
		return out
	}
}

func together(string) int { return 0 }

// Each side calls the other dead while they are apart, and once the network is
// whole every member's list is whole within 10 s: with memberlist's own
// durations and ours, on simulated time.
func TestAHealedPartitionMerges(t *testing.T) {
	agentsApart := func(name string) int {
		if strings.HasPrefix(name, "a") {
			return 1
		}
		return 0
	}
	alone := func(who string) func(string) int {
		return func(name string) int {
			if name == who {
				return 1
			}
			return 0
		}
	}
	for what, c := range map[string]struct {
		servers, agents int
		side            func(string) int
	}{
		"agents alone":        {3, 2, agentsApart},
		"an agent alone":      {3, 2, alone("a1")},
		"a server alone":      {3, 2, alone("s2")},
		"one server, its own": {1, 1, agentsApart},
		"agents cut off from each other and all else": {3, 4, func(name string) int {
			if strings.HasPrefix(name, "a") {
				return int(name[1])
			}
			return 0
		}},
		"a dozen in halves": {3, 9, func(name string) int { return int(name[len(name)-1]) % 2 }},
	} {
		t.Run(what, func(t *testing.T) {
			var slowest, slowestSplit time.Duration
			// After 30 s memberlist forgets its dead; before, it still gossips to them.
			for _, hold := range []time.Duration{0, 40 * time.Second, 2 * time.Minute} {
				synctest.Test(t, func(t *testing.T) {
					f := newFleet(t, c.servers, c.agents)
					f.await(healWithin, f.within(together))
					f.network.split(func(from, to string) bool { return c.side(from) != c.side(to) })
					// A suspicion that nobody confirms lasts 24 s, six times its least, and
					// longer with more members.
					split := f.await(10*time.Minute, f.within(c.side))
					time.Sleep(hold)
					f.await(0, f.within(c.side))
					f.network.heal()
					took := f.await(healWithin, f.within(together))
					slowest, slowestSplit = max(slowest, took), max(slowestSplit, split)
				})
			}
			t.Logf("dead on both sides after at most %s, merged after at most %s", slowestSplit, slowest)
		})
	}
}

// A member that was killed and comes back under its name at another address, as
// an agent with a free port does, is not taken for an impostor for long.
func TestAMemberThatWasKilledComesBackAtAnotherAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, 2)
		f.await(healWithin, f.within(together))
		f.network.kill("a1")
		without := func(string) []string { return []string{"a2", "s1", "s2", "s3"} }
		dead := f.members["a1"]
		delete(f.members, "a1")
		f.await(time.Minute, without)
		f.join("a1", []string{f.members["s1"].Addr()})
		took := f.await(healWithin, f.within(together))
		t.Logf("in every list %s after it came back", took)
		if f.members["a1"].Addr() == dead.Addr() {
			t.Error("it came back at the same address")
		}
	})
}
