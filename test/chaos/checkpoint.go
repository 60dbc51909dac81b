//go:build linux

package chaos

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api/snapshot"
	"github.com/tunemesh/tunemesh/nodeagent"
)

// usage is what a program holds: I10 watches it grow.
type usage struct {
	goroutines, files int
	rss               int64 // KiB
}

// usages looks at every server (goroutines as its /metrics tell) and agent.
func (m *mesh) usages(token string) map[string]usage {
	out := map[string]usage{}
	for _, p := range append(append([]*member(nil), m.servers...), m.agents...) {
		pid := p.running()
		if pid == 0 {
			continue
		}
		var u usage
		if list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
			u.files = len(list)
		}
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				u.rss, _ = strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			}
		}
		if p.url != "" {
			a := m.ask(context.Background(), token, p.url, http.MethodGet, "/metrics", nil, 3*time.Second)
			for line := range strings.Lines(string(a.Body)) {
				if rest, ok := strings.CutPrefix(line, "go_goroutines "); ok {
					n, _ := strconv.ParseFloat(strings.TrimSpace(rest), 64)
					u.goroutines = int(n)
				}
			}
		}
		out[p.name] = u
	}
	return out
}

// growth compares what is held after a storm with a calm mesh's, when both do
// nothing. Twice as much and fifty more is growth.
func growth(calm, now map[string]usage) []string {
	var faults []string
	names := make([]string, 0, len(now))
	for name := range now {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		a, b := calm[name], now[name]
		if b.goroutines > 2*a.goroutines+50 {
			faults = append(faults, fmt.Sprintf("I10: %s has %d goroutines, calm it had %d", name, b.goroutines, a.goroutines))
		}
		if b.files > 2*a.files+50 {
			faults = append(faults, fmt.Sprintf("I10: %s holds %d files open, calm it held %d", name, b.files, a.files))
		}
	}
	return faults
}

// leftovers waits until no shim and no trainer runs.
func (m *mesh) leftovers(limit time.Duration) []string {
	deadline := time.Now().Add(limit)
	for {
		left := m.trainers()
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			var out []string
			for pid, text := range left {
				out = append(out, fmt.Sprintf("I7: pid %d outlives its attempt: %s", pid, text))
			}
			sort.Strings(out)
			return out
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// enrolGhost makes a node that nobody runs and returns its id.
func (m *mesh) enrolGhost(ctx context.Context, server, name string) (string, error) {
	dir, err := os.MkdirTemp(m.dir, "ghost-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	id, err := nodeagent.LoadIdentity(dir)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	_, err = nodeagent.Enrol(ctx, id, name, m.clientAs("node", server))
	return id.NodeID, err
}

func randomOf(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// equalStates compares the servers' states at an equal index (I4): snapshots of
// each server's own state, taken until all have the same index.
func (s *storm) equalStates() []string {
	var seen []string
	for range 100 {
		states := map[string]string{} // hash by index; one server more overwrites none
		indices := map[uint64]int{}
		seen = nil
		for _, m := range s.mesh.servers {
			var file bytes.Buffer
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			err := s.mesh.client(m.url).SaveSnapshot(ctx, true, &file)
			cancel()
			var sum snapshot.Summary
			if err == nil {
				sum, err = snapshot.Inspect(&file)
			}
			if err != nil {
				seen = append(seen, fmt.Sprintf("%s: %v", m.name, err))
				continue
			}
			seen = append(seen, fmt.Sprintf("%s: index %d, state %.12s", m.name, sum.Index, sum.SHA256))
			indices[sum.Index]++
			states[sum.SHA256] = m.name
		}
		for _, n := range indices {
			if n == len(s.mesh.servers) {
				if len(states) > 1 {
					return []string{"I4: the servers' states differ at an equal index: " + strings.Join(seen, "; ")}
				}
				return nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return []string{"I4: the servers do not come to an equal index: " + strings.Join(seen, "; ")}
}
