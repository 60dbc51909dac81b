package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// archiver archives what the rig's event log holds, and does what fails says.
type archiver struct {
	log *eventLog

	mu       sync.Mutex
	lines    map[uint64]uint64 // that the log holds, by fence
	failures int
	uploads  []string
	finished int
}

func (a *archiver) Archive(_ context.Context, job string, recorded []api.EventArchive, transitions uint64, lines map[uint64]uint64, anyway bool) (*api.EventArchive, string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failures > 0 {
		a.failures--
		return nil, "", errDown
	}
	a.log.mu.Lock()
	defer a.log.mu.Unlock()
	have := uint64(len(a.log.lines[job]))
	missing := ""
	if have < transitions {
		missing = "a state change"
	}
	last := have
	for fence, n := range lines {
		if a.lines[fence] < n {
			missing = "a line"
		}
		last += a.lines[fence]
	}
	first := uint64(1)
	if n := len(recorded); n > 0 {
		first = recorded[n-1].Last + 1
	}
	if missing != "" && !anyway || last < first {
		return nil, missing, nil
	}
	a.uploads = append(a.uploads, fmt.Sprintf("%d-%d", first, last))
	return &api.EventArchive{Key: "k", First: first, Last: last, Sources: map[string]uint64{"state": have}}, missing, nil
}

func (a *archiver) Finish(context.Context, string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.finished++
	return nil
}

// done is what was uploaded so far, and how many jobs were finished.
func (a *archiver) done() (uploads []string, finished int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.uploads), a.finished
}

// has sets how many lines of an attempt the log holds.
func (a *archiver) has(fence, lines uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lines[fence] = lines
}

// fails makes the next n uploads fail.
func (a *archiver) fails(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures = n
}

// archiving runs a test with a leader that archives, on a mesh that may record it.
func archiving(t *testing.T, test func(r *rig, a *archiver)) {
	t.Helper()
	inBubble(t, func(r *rig) {
		a := &archiver{log: r.log, lines: map[uint64]uint64{}}
		r.archiver = a
		r.must(state.SetMinVersion{Version: api.ProtocolVersion})
		r.elect()
		r.beating("n1", 2)
		test(r, a)
	})
}

func (r *rig) archived(job string) string {
	out := ""
	for _, p := range r.store.EventArchives(job) {
		out += fmt.Sprintf("%d-%d ", p.First, p.Last)
	}
	return out
}

func lined(r api.AttemptReport, lines uint64) api.AttemptReport {
	r.Lines = lines
	return r
}

func TestAnEndedJobIsArchivedOnceAllLinesAreThere(t *testing.T) {
	archiving(t, func(r *rig, a *archiver) {
		r.job("j", stage("a", "custom"))
		fence := r.running("j", "a")
		r.report(fence, lined(fine(), 10))
		r.pass(5 * time.Minute)
		if r.archived("j") != "" || len(r.store.TransitionBacklogs()) != 1 {
			t.Fatalf("archived %q although lines are missing", r.archived("j"))
		}
		a.has(fence, 10)
		r.pass(20 * time.Second)
		_, finished := a.done()
		if got := r.archived("j"); got != "1-16 " || finished == 0 {
			t.Errorf("archived %q, finished %d times", got, finished)
		}
		if left := r.store.TransitionBacklogs(); len(left) != 0 {
			t.Errorf("transitions are kept: %+v", left)
		}
		before := r.index
		r.pass(time.Hour)
		if uploads, _ := a.done(); r.index != before || len(uploads) != 1 {
			t.Errorf("%d commands and %d uploads afterwards", r.index-before, len(uploads))
		}
	})
}

func TestLinesThatNeverComeAreGivenUp(t *testing.T) {
	archiving(t, func(r *rig, a *archiver) {
		r.job("j", stage("a", "custom"))
		fence := r.running("j", "a")
		r.report(fence, lined(fine(), 10))
		r.pass(11 * time.Minute)
		if got := r.archived("j"); got != "1-6 " {
			t.Fatalf("archived %q", got)
		}
		// They come after all: they make the second part.
		a.has(fence, 10)
		r.d.Late("j")
		r.pass(time.Minute)
		if got := r.archived("j"); got != "1-6 7-16 " {
			t.Errorf("archived %q", got)
		}
	})
}

// Between any two steps a leader may fall: the next one goes on.
func TestArchivingSurvivesLeaders(t *testing.T) {
	archiving(t, func(r *rig, a *archiver) {
		r.job("j", stage("a", "custom"))
		r.report(r.running("j", "a"), fine())
		a.fails(2)
		r.settle()
		r.setDown(true) // uploads work, nothing is recorded
		r.pass(30 * time.Second)
		if uploads, _ := a.done(); r.archived("j") != "" || len(uploads) == 0 {
			t.Fatalf("archived %q, uploads %v", r.archived("j"), uploads)
		}
		r.setDown(false)
		r.elect()
		r.pass(20 * time.Second)
		if got := r.archived("j"); got != "1-6 " || len(r.store.TransitionBacklogs()) != 0 {
			t.Errorf("archived %q, left %+v", got, r.store.TransitionBacklogs())
		}
		// Recorded, but the transitions were not trimmed before the leader fell.
		r.job("k", stage("a", "custom"))
		r.report(r.running("k", "a"), fine())
		r.settle()
		r.must(state.ArchiveEvents{JobID: "k", Part: api.EventArchive{Key: "k", First: 1, Last: 6, Sources: map[string]uint64{"state": 6}}})
		r.elect()
		r.pass(20 * time.Second)
		if got := r.archived("k"); got != "1-6 " || len(r.store.TransitionBacklogs()) != 0 {
			t.Errorf("archived %q, left %+v", got, r.store.TransitionBacklogs())
		}
	})
}

func TestAResumedJobGetsASecondPart(t *testing.T) {
	archiving(t, func(r *rig, a *archiver) {
		r.job("j", stage("a", "custom"))
		r.report(r.running("j", "a"), broken("config", false))
		r.pass(20 * time.Second)
		first := r.archived("j")
		if first == "" {
			t.Fatal("the failed job is not archived")
		}
		r.must(state.ResumeJob{JobID: "j", At: time.Now()})
		r.settle()
		r.report(r.running("j", "a"), fine())
		r.pass(20 * time.Second)
		if parts := r.store.EventArchives("j"); len(parts) != 2 || parts[1].First != parts[0].Last+1 {
			t.Errorf("parts %+v", parts)
		}
		r.log.story(t, "j")
	})
}
