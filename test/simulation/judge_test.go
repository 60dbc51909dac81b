package simulation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/test/invariant"
)

// settle waits, by the clock of the simulation, until every job has ended and every
// reader has read to the end.
func (c *clients) settle(limit time.Duration) {
	c.submits.Wait()
	deadline := time.Now().Add(limit)
	var open []string
	for {
		open = nil
		for i, j := range c.jobs {
			if j.done {
				continue
			}
			d, err := c.get(2000, j, c.mesh.servers[i%len(c.mesh.servers)].url())
			var p *api.Problem
			switch {
			case errors.As(err, &p) && p.Status == http.StatusNotFound && !j.acked:
				j.done = true // it never came to be; the history says whether it may
			case err != nil:
				open = append(open, fmt.Sprintf("%s: %v", j.id, err))
			case d.State.Terminal():
				j.done = true
			default:
				var stages []string
				for _, s := range d.Stages {
					stages = append(stages, fmt.Sprintf("%s %s fence %d on %s tries %d (%s)", s.Name, s.State, s.Fence, s.Node, s.Tries, s.WaitReason))
				}
				open = append(open, fmt.Sprintf("%s is %s: %s", j.id, d.State, strings.Join(stages, "; ")))
			}
		}
		if len(open) == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(2 * time.Second)
	}
	if len(open) > 0 {
		c.mesh.fail("I2: %d jobs have not ended %s after the last fault: %s", len(open), limit, strings.Join(open, "\n  "))
	}
}

// verify asks for everything that was promised.
func (c *clients) verify(sum *outcome) {
	m, ctx := c.mesh, context.Background()
	patient := c.patient()
	for i, id := range c.datasets {
		called := c.history.Now()
		a := c.ask(m.servers[i%len(m.servers)].url(), http.MethodGet, "/v1/datasets/"+id, nil)
		if a.Status == http.StatusNotFound || a.Err == nil {
			c.history.Add(3000, called, invariant.Input{Kind: invariant.Get, Key: "dataset/" + id}, invariant.Output{Status: a.Status})
		}
		if a.Err != nil {
			m.fail("I1: the acknowledged dataset %s: %v", id, a.Err)
		}
	}
	attempts := map[uint64]api.Attempt{}
	for _, j := range c.jobs {
		d, err := patient.Job(ctx, j.id)
		if err != nil {
			var p *api.Problem
			if !j.acked && errors.As(err, &p) && p.Status == http.StatusNotFound {
				continue
			}
			m.fail("I1: job %s (acknowledged %t): %v", j.id, j.acked, err)
			continue
		}
		sum.jobs++
		list, err := patient.Attempts(ctx, j.id)
		if err != nil {
			m.fail("I3: attempts of %s: %v", j.id, err)
			continue
		}
		for _, a := range list {
			attempts[a.Fence] = a
			sum.attempts++
			if a.State == api.AttemptLost {
				sum.lost++
			}
		}
		c.judgeEnd(ctx, j, d)
		for _, f := range invariant.AttemptFaults(d, list) {
			m.fail("%s", f)
		}
		c.judgeStages(ctx, j, d, list)
	}
	c.judgeEvents(sum, attempts)
	c.judgeTrainers(sum, attempts)
	c.judgeStates()
	for _, f := range c.history.Check(20 * time.Second) {
		m.fail("I9: %s", f)
	}
	sum.operations, sum.unknown = c.history.Size()
}

// judgeEnd checks that a job ended as it had to.
func (c *clients) judgeEnd(ctx context.Context, j *job, d api.JobDetail) {
	m := c.mesh
	fails := slices.ContainsFunc(j.plan.stages, func(s plannedStage) bool { return s.ending != endsWell })
	switch d.State {
	case api.JobSucceeded:
		if fails {
			m.fail("job %s succeeded though a stage of it cannot", j.id)
		}
	case api.JobCancelled:
		if !j.cancelled {
			m.fail("I2: job %s is cancelled and nobody asked for it: %s", j.id, d.Reason)
		}
	case api.JobFailed:
		letters, err := c.patient().DeadLetters(ctx, j.id)
		if err != nil || len(letters) == 0 || letters[0].Error.Code == "" {
			m.fail("I2: job %s failed without a dead letter that says why (%v)", j.id, err)
		} else if !fails {
			m.fail("I2: job %s failed though its stages work: %s %s", j.id, letters[0].Error.Code, letters[0].Error.Message)
		}
	default:
		m.fail("I2: job %s is %s at the end", j.id, d.State)
	}
}

// judgeStages checks that what was accepted was made by the attempt that it was
// accepted for, and is there.
func (c *clients) judgeStages(ctx context.Context, j *job, d api.JobDetail, list []api.Attempt) {
	m := c.mesh
	for _, s := range d.Stages {
		if s.State != api.StageSucceeded {
			continue
		}
		made, lines := madeBy(s)
		if made != s.Fence {
			m.fail("I3: stage %s of %s succeeded under the fence %d with a result that was made under %d", s.Name, j.id, s.Fence, made)
		}
		for _, a := range s.Artifacts {
			data, ok := m.stores.get(a.Bucket + "/" + a.Key)
			hash := sha256.Sum256(data)
			if !ok || hex.EncodeToString(hash[:]) != a.SHA256 {
				m.fail("I6: %s of stage %s of %s is not what the manifest says (there: %t)", a.Name, s.Name, j.id, ok)
			}
		}
		want := 1
		if s.Command[len(s.Command)-1] == "true" { // bare
			want = 0
		}
		if len(s.Artifacts) != want {
			m.fail("I6: stage %s of %s has %d artifacts, its attempt made %d", s.Name, j.id, len(s.Artifacts), want)
		}
		if pair, ok := c.readers[j.id]; ok {
			have := 0
			for _, e := range pair[0].Seen().Events {
				if e.Fence == s.Fence && e.Level == api.LevelInfo {
					have++
				}
			}
			if have != lines {
				m.fail("I5: stage %s of %s printed %d lines under the fence %d, a reader got %d", s.Name, j.id, lines, s.Fence, have)
			}
		}
	}
	for _, a := range list {
		if a.Error != nil && !slices.Contains([]string{"PLANNED", "CRASHED", "VANISHED", "DISCONNECTED", "INTERRUPTED", "CANCELLED", "INPUT_UNAVAILABLE", "UPLOAD_FAILED"}, a.Error.Code) {
			m.fail("attempt %d of %s failed for a reason that nobody made: %s %s", a.Fence, j.id, a.Error.Code, a.Error.Message)
		}
	}
}

func (c *clients) judgeEvents(sum *outcome, attempts map[uint64]api.Attempt) {
	for _, j := range c.jobs {
		pair, ok := c.readers[j.id]
		if !ok || !j.acked {
			continue
		}
		for _, f := range invariant.EventFaults(pair[0], pair[1]) {
			c.mesh.fail("I5: %s", f)
		}
		for _, e := range pair[0].Seen().Events {
			if e.Level == api.LevelInfo && attempts[e.Fence].State == api.AttemptSucceeded && !strings.HasPrefix(e.Message, fmt.Sprintf("line %d of ", e.SourceSeq)) {
				c.mesh.fail("I5: line %d of fence %d of %s reads %q", e.SourceSeq, e.Fence, j.id, e.Message)
			}
		}
		for i, r := range pair {
			seen := r.Seen()
			sum.events += len(seen.Events)
			sum.resets += seen.Resets
			if !seen.Ended {
				c.mesh.fail("I5: reader %d of %s did not come to the end of the stream", i+1, j.id)
			}
		}
	}
}

// judgeTrainers looks at every process that was started.
func (c *clients) judgeTrainers(sum *outcome, attempts map[uint64]api.Attempt) {
	m := c.mesh
	for _, a := range m.agents {
		a.machine.mu.Lock()
		for _, f := range a.machine.fault {
			m.fail("%s", f)
		}
		for _, t := range a.machine.all {
			sum.trainers++
			if !t.over {
				m.fail("I7: the process of fence %d still runs on %s at the end, its attempt is %s", t.fence, a.name, attempts[t.fence].State)
			}
			at, known := attempts[t.fence]
			if known && at.Error != nil && at.Error.Code == "VANISHED" && !t.exit.Gone {
				m.fail("I8: the process of fence %d on %s did not vanish, and was reported as if it had", t.fence, a.name)
			}
		}
		a.machine.mu.Unlock()
	}
}

// compare notes each server's state as of now, and whether another server had
// another state at the same index.
func (m *mesh) compare() {
	for _, s := range m.servers {
		l := s.running()
		if l == nil {
			continue
		}
		view := l.raft.Store().At()
		index, hash := view.Index(), view.Hash()
		m.mu.Lock()
		was, seen := m.hashes[index]
		if !seen {
			m.hashes[index] = hash
		}
		m.mu.Unlock()
		if seen && was != hash {
			m.fail("I4: %s has another state at the index %d than a server before: %s, not %s", s.id, index, hash, was)
		}
	}
}

// judgeStates waits until all servers are at the same index and compares their
// states.
func (c *clients) judgeStates() {
	m := c.mesh
	for range 300 {
		hashes := map[string][]string{}
		indices := map[uint64]bool{}
		for _, s := range m.servers {
			l := s.running()
			if l == nil {
				m.fail("%s does not run at the end", s.id)
				return
			}
			view := l.raft.Store().At()
			indices[view.Index()] = true
			hash := view.Hash()
			hashes[hash] = append(hashes[hash], s.id)
		}
		if len(indices) == 1 {
			if len(hashes) != 1 {
				m.fail("I4: the states differ at the same index: %v", hashes)
			}
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	m.fail("I4: the servers do not come to the same index within 30 s")
}
