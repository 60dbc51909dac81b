//go:build linux

package chaos

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// gossip is whom each server and agent sees by gossip: servers tell names,
// agents the number of each role.
func (m *mesh) gossip(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, s := range m.servers {
		text, err := m.cli("cluster", "gossip", "--json", "--server", s.url)
		if err != nil {
			t.Fatal(err)
		}
		var g api.Gossip
		if err := json.Unmarshal([]byte(text), &g); err != nil || g.Name != s.name {
			t.Fatalf("%s answers as %q: %v\n%s", s.name, g.Name, err, text)
		}
		var names []string
		for _, k := range g.Members {
			names = append(names, k.Name)
		}
		slices.Sort(names)
		out[s.name] = strings.Join(names, " ")
	}
	for _, a := range m.agents {
		seen := map[string]float64{}
		for _, role := range []string{"server", "agent"} {
			number(m.scrape(t.Context(), a), fmt.Sprintf("gossip_members{role=%q}", role), role, seen)
		}
		out[a.name] = fmt.Sprintf("%g servers, %g agents", seen["server"], seen["agent"])
	}
	return out
}

// awaitGossip returns when each sees what is wanted, and after how long.
func (m *mesh) awaitGossip(t *testing.T, limit time.Duration, want map[string]string) time.Duration {
	t.Helper()
	began := time.Now()
	if err := m.eventually(limit, func() error {
		for name, got := range m.gossip(t) {
			if got != want[name] {
				return fmt.Errorf("%s sees %s, want %s", name, got, want[name])
			}
		}
		return nil
	}); err != nil {
		t.Fatalf("after %s: %v", limit, err)
	}
	return time.Since(began)
}

// The agents are cut off until memberlist itself calls them dead, and they the
// servers; then the network is whole again, and within 10 s so is the list of
// each of them. TUNEMESH_CHAOS_ROUNDS is how often, with longer and longer cuts.
func TestGossipMergesAfterAPartition(t *testing.T) {
	rounds := envInt("TUNEMESH_CHAOS_ROUNDS", 3)
	m := start(t, shape{servers: 3, agents: 2})
	whole := map[string]string{"a1": "3 servers, 2 agents", "a2": "3 servers, 2 agents"}
	parts := map[string]string{"a1": "0 servers, 2 agents", "a2": "0 servers, 2 agents"}
	for _, s := range m.servers {
		whole[s.name], parts[s.name] = "a1 a2 s1 s2 s3", "s1 s2 s3"
	}
	t.Logf("every list is whole %s after the start", m.awaitGossip(t, 30*time.Second, whole).Round(time.Millisecond))
	var merged []time.Duration
	for round := range rounds {
		m.fabric.between("cut", []string{"a1", "a2"}, m.fabric.others("a1", "a2"), link{cut: true})
		dead := m.awaitGossip(t, 2*time.Minute, parts)
		time.Sleep(time.Duration(round) * 20 * time.Second) // beyond 30 s memberlist has forgotten its dead
		m.awaitGossip(t, 0, parts)
		m.fabric.lift("cut")
		took := m.awaitGossip(t, 30*time.Second, whole)
		merged = append(merged, took)
		t.Logf("round %d: dead on both sides %s after the cut; merged %s after it healed", round+1, dead.Round(time.Millisecond), took.Round(time.Millisecond))
		if took > 10*time.Second {
			t.Errorf("gossip took %s to merge, want 10 s at most", took)
		}
	}
	t.Logf("healed to merged: %s", percentiles(merged))
}
