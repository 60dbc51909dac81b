package invariant

import (
	"testing"

	"github.com/tunemesh/tunemesh/api"
)

// The checks of states have to be able to fail too.
func TestTheChecksOfStatesFindPlantedViolations(t *testing.T) {
	detail := func(job api.JobState, stage api.StageState, fence uint64) api.JobDetail {
		d := api.JobDetail{Stages: []api.Stage{{State: stage, Fence: fence}}}
		d.ID, d.State, d.Stages[0].Name = "1", job, "only"
		return d
	}
	try := func(fence uint64, s api.AttemptState) api.Attempt {
		return api.Attempt{Fence: fence, Stage: "only", State: s}
	}
	for _, tt := range []struct {
		name     string
		job      api.JobDetail
		attempts []api.Attempt
		good     bool
	}{
		{"one success after a loss", detail(api.JobSucceeded, api.StageSucceeded, 9), []api.Attempt{try(5, api.AttemptLost), try(9, api.AttemptSucceeded)}, true},
		{"two accepted", detail(api.JobSucceeded, api.StageSucceeded, 9), []api.Attempt{try(5, api.AttemptSucceeded), try(9, api.AttemptSucceeded)}, false},
		{"an older fence accepted", detail(api.JobSucceeded, api.StageSucceeded, 5), []api.Attempt{try(5, api.AttemptSucceeded), try(9, api.AttemptLost)}, false},
		{"a success that nobody made", detail(api.JobSucceeded, api.StageSucceeded, 9), []api.Attempt{try(9, api.AttemptFailed)}, false},
		{"accepted, and failed all the same", detail(api.JobFailed, api.StageFailed, 9), []api.Attempt{try(9, api.AttemptSucceeded)}, false},
		{"an attempt runs after the job's end", detail(api.JobCancelled, api.StageCancelled, 9), []api.Attempt{try(9, api.AttemptRunning)}, false},
	} {
		if faults := AttemptFaults(tt.job, tt.attempts); (len(faults) == 0) != tt.good {
			t.Errorf("%s: %q", tt.name, faults)
		}
	}
	line := func(fence, n uint64) api.Event { return api.Event{Level: api.LevelInfo, Fence: fence, SourceSeq: n} }
	for _, tt := range []struct {
		name string
		list []api.Event
		good bool
	}{
		{"two attempts side by side", []api.Event{line(1, 1), line(2, 1), line(1, 2), line(2, 2)}, true},
		{"a hole", []api.Event{line(1, 1), line(1, 3)}, false},
		{"a repeat", []api.Event{line(1, 1), line(1, 1)}, false},
		{"out of order", []api.Event{line(1, 2), line(1, 1)}, false},
	} {
		if faults := LineFaults("1", tt.list); (len(faults) == 0) != tt.good {
			t.Errorf("%s: %q", tt.name, faults)
		}
	}
	r := &Reader{job: "1"}
	for _, e := range []struct{ id, data string }{{"1.a", `{"seq":1}`}, {"2.a", `{"seq":2}`}} {
		r.take(e.id, e.data)
	}
	if len(r.faults) > 0 {
		t.Error(r.faults)
	}
	for _, e := range []struct{ id, data string }{{"4.a", `{"seq":4}`}, {"4.a", `{"seq":4}`}, {"5.b", `{"seq":5}`}, {"7.b", `{"seq":6}`}} {
		before := len(r.faults)
		if r.take(e.id, e.data); len(r.faults) == before {
			t.Errorf("the reader takes %+v after %d without a word", e, r.last)
		}
	}
}
