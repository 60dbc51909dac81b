//go:build linux

package chaos

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/test/invariant"
)

// report is what the checks found, and how much they looked at.
type report struct {
	jobs, succeeded, failed, cancelled, unknown int
	attempts, lost, objects, adapters, events   int
	resets                                      int // streams that readers were told to read anew
	faults                                      []string
	deadReasons                                 map[string]int
}

func (r *report) fail(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

func (r report) String() string {
	return fmt.Sprintf("%d jobs (%d succeeded, %d failed, %d cancelled, %d never made), %d attempts (%d lost), %d objects, %d equal adapters, %d events (%d streams read anew)",
		r.jobs, r.succeeded, r.failed, r.cancelled, r.unknown, r.attempts, r.lost, r.objects, r.adapters, r.events, r.resets)
}

// settle waits until every job is terminal.
func (w *workload) settle(limit time.Duration) []string {
	deadline := time.Now().Add(limit)
	for {
		var open []string
		w.mu.Lock()
		var look []*planned
		for _, id := range w.order {
			if p := w.jobs[id]; !p.done {
				look = append(look, p)
			}
		}
		w.mu.Unlock()
		for i, p := range look {
			server := w.mesh.servers[i%len(w.mesh.servers)].url
			d, err := w.get(context.Background(), 2000, p, server)
			w.mu.Lock()
			acked := p.acked
			w.mu.Unlock()
			switch {
			case err != nil && !acked && strings.Contains(err.Error(), "Not Found"):
				w.mu.Lock()
				p.done = true // it never came to be; the history says whether it may
				w.mu.Unlock()
			case err != nil:
				open = append(open, fmt.Sprintf("%s: %v", p.id, err))
			case !d.State.Terminal():
				var stages []string
				for _, s := range d.Stages {
					stages = append(stages, fmt.Sprintf("%s %s fence %d on %s tries %d (%s)", s.Name, s.State, s.Fence, s.Node, s.Tries, s.WaitReason))
				}
				open = append(open, fmt.Sprintf("%s is %s: %s", p.id, d.State, strings.Join(stages, "; ")))
			}
		}
		if len(open) == 0 || time.Now().After(deadline) {
			return open
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// verify looks at every job through the API and at every object, and compares
// adapters with the calm run's (empty: with the first).
func (w *workload) verify(adapter string) (r report) {
	r.deadReasons = map[string]int{}
	c := w.mesh.patient()
	ctx := context.Background()
	starts := w.starts(&r)
	w.mu.Lock()
	order := append([]string(nil), w.order...)
	datasets := append([]string(nil), w.datasets...)
	w.mu.Unlock()
	for i, id := range datasets {
		// I1: through the history, so that the linearizability check sees it too.
		called := w.history.Now()
		a := w.mesh.ask(ctx, w.token, w.mesh.servers[i%len(w.mesh.servers)].url, http.MethodGet, "/v1/datasets/"+id, nil, askLimit)
		if a.Status == 404 || a.Err == nil {
			w.history.Add(3000, called, invariant.Input{Kind: invariant.Get, Key: "dataset/" + id}, invariant.Output{Status: a.Status})
		}
		if a.Err != nil {
			r.fail("I1: the acknowledged dataset %s: %v", id, a.Err)
		}
	}
	for _, id := range order {
		w.mu.Lock()
		p := *w.jobs[id]
		w.mu.Unlock()
		r.jobs++
		d, err := c.Job(ctx, id)
		if err != nil {
			if strings.Contains(err.Error(), "Not Found") && !p.acked {
				r.unknown++
				continue
			}
			r.fail("I1: job %s (acknowledged %t): %v", id, p.acked, err)
			continue
		}
		switch d.State {
		case api.JobSucceeded:
			r.succeeded++
		case api.JobCancelled:
			r.cancelled++
			if !p.cancel {
				r.fail("I2: job %s is cancelled and nobody asked for it: %s", id, d.Reason)
			}
		case api.JobFailed:
			r.failed++
			letters, err := c.DeadLetters(ctx, id)
			if err != nil || len(letters) == 0 || letters[0].Error.Code == "" {
				r.fail("I2: job %s failed without a dead letter that says why (%v)", id, err)
			} else {
				r.deadReasons[letters[0].Stage+" "+letters[0].Error.Code+": "+letters[0].Error.Message]++
			}
		default:
			r.fail("I2: job %s is %s at the end", id, d.State)
		}
		w.verifyAttempts(ctx, &r, d, starts)
		if d.State == api.JobSucceeded {
			w.verifyObjects(ctx, &r, d, &adapter)
		}
	}
	for _, f := range w.eventFaults() {
		r.fail("I5: %s", f)
	}
	w.mu.Lock()
	for _, rd := range w.readers {
		seen := rd.Seen()
		r.events += len(seen.Events)
		r.resets += seen.Resets
		for _, why := range seen.Reasons {
			r.deadReasons["stream read anew: "+why]++
		}
	}
	w.mu.Unlock()
	return r
}

// verifyAttempts: at most one attempt of a stage is accepted, and it is the last.
func (w *workload) verifyAttempts(ctx context.Context, r *report, d api.JobDetail, starts map[uint64]int) {
	attempts, err := w.mesh.patient().Attempts(ctx, d.ID)
	if err != nil {
		r.fail("I3: attempts of %s: %v", d.ID, err)
		return
	}
	r.attempts += len(attempts)
	for _, f := range invariant.AttemptFaults(d, attempts) {
		r.fail("%s", f)
	}
	for _, a := range attempts {
		if a.State == api.AttemptLost {
			r.lost++
		}
		if starts[a.Fence] > 1 {
			r.fail("I8: fence %d of %s was started %d times", a.Fence, d.ID, starts[a.Fence])
		}
	}
}

// verifyObjects reads every object of a job and compares its hash.
func (w *workload) verifyObjects(ctx context.Context, r *report, d api.JobDetail, adapter *string) {
	list, err := w.mesh.patient().Artifacts(ctx, d.ID)
	if err != nil {
		r.fail("I6: artifacts of %s: %v", d.ID, err)
		return
	}
	for _, a := range list {
		r.objects++
		if err := w.fetch(ctx, a.Artifact); err != nil {
			r.fail("I6: %s of stage %s of %s: %v", a.Name, a.Stage, d.ID, err)
		}
		if a.Name == "adapter/adapter_model.safetensors" {
			r.adapters++
			if *adapter == "" {
				*adapter = a.SHA256
			}
			if a.SHA256 != *adapter {
				r.fail("the adapter of %s is %s, the calm run's is %s", d.ID, a.SHA256, *adapter)
			}
		}
	}
}

func (w *workload) fetch(ctx context.Context, a api.Artifact) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL, nil)
	if err != nil {
		return err
	}
	resp, err := w.mesh.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the object store answers %s", resp.Status)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, resp.Body)
	if got := hex.EncodeToString(sum.Sum(nil)); err != nil || got != a.SHA256 || n != a.Size {
		return fmt.Errorf("%d bytes with SHA-256 %s, the manifest says %d and %s (%v)", n, got, a.Size, a.SHA256, err)
	}
	return nil
}

// starts counts in the ledger how often each fence was started.
func (w *workload) starts(r *report) map[uint64]int {
	out := map[uint64]int{}
	f, err := os.Open(w.ledger)
	if err != nil {
		return out
	}
	defer f.Close()
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		var word string
		var fence uint64
		var pid int
		if _, err := fmt.Sscan(scan.Text(), &word, &fence, &pid); err != nil {
			r.fail("the ledger has the line %q", scan.Text())
		} else if word == "start" {
			out[fence]++
		}
	}
	return out
}

// trainers lists the processes on agents' hosts that are neither the agent nor
// one of its short-lived looks at the machine: shims and what they started.
func (m *mesh) trainers() map[int]string {
	out := map[int]string{}
	for _, a := range m.agents {
		for _, pid := range a.host.pids() {
			line, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "cmdline"))
			text := strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
			if err != nil || text == "" || pid == a.running() || strings.Contains(text, " nodeagent ") {
				continue
			}
			if len(text) > 200 {
				text = text[:200]
			}
			out[pid] = a.name + ": " + text
		}
	}
	return out
}

// panics looks through the logs for what no program may say, and for reports of
// data races.
func (m *mesh) panics() []string {
	var out []string
	races, _ := filepath.Glob(m.races() + ".*")
	for _, path := range races {
		text, _ := os.ReadFile(path)
		out = append(out, fmt.Sprintf("data race, told in %s: %.4000s", filepath.Base(path), text))
	}
	logs, _ := filepath.Glob(filepath.Join(m.dir, "*.log"))
	for _, path := range logs {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		scan := bufio.NewScanner(f)
		scan.Buffer(nil, 1<<20)
		for scan.Scan() {
			for _, word := range []string{"panic:", "DATA RACE", "fatal error:"} {
				if strings.Contains(scan.Text(), word) {
					out = append(out, filepath.Base(path)+": "+scan.Text())
				}
			}
		}
		_ = f.Close()
	}
	return out
}
