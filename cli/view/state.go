package view

import (
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
)

// State is what is known of a job so far.
type State struct {
	Job api.JobDetail
	// LastSeq is the number of the newest event taken in; a stream that broke
	// goes on after it.
	LastSeq uint64
	// Trouble says why nothing new arrives, empty while all is well.
	Trouble string

	nodes  []api.Node
	stages map[string]*stageView
	last   *api.Event // newest event with something to read

	curves   map[string]*curve // by stage
	measured string            // the stage that measured last
}

// stageView is what the events said of one stage's current attempt.
type stageView struct {
	attempt  int
	progress *api.Progress
	loss     *float64
	rate     *float64
	measured time.Time // of the newest progress
}

// SetJob takes a newer document of the job in; an older one than the one at
// hand is ignored.
func (s *State) SetJob(job api.JobDetail) {
	if job.Index >= s.Job.Index {
		s.Job = job
	}
}

// Apply takes one event in. An event that was there before changes nothing, so
// that a stream may be replayed.
func (s *State) Apply(e api.Event) {
	if e.Seq != 0 && e.Seq <= s.LastSeq {
		return
	}
	s.LastSeq = max(s.LastSeq, e.Seq)
	if e.Stage != "" {
		s.stage(e.Stage).apply(e)
		if e.Loss != nil {
			s.addLoss(e)
		}
	}
	if Readable(e) {
		s.last = &e
	}
}

// Readable says whether an event has something for a person to read beside its
// numbers.
func Readable(e api.Event) bool { return e.Level != api.LevelMetric && text(e, false) != "" }

func (s *State) stage(name string) *stageView {
	if s.stages == nil {
		s.stages = map[string]*stageView{}
	}
	if s.stages[name] == nil {
		s.stages[name] = &stageView{}
	}
	return s.stages[name]
}

func (v *stageView) apply(e api.Event) {
	if e.Attempt > v.attempt { // what an earlier attempt said is no longer so
		*v = stageView{attempt: e.Attempt}
	}
	if e.Attempt < v.attempt && e.Attempt != 0 {
		return
	}
	if e.Progress != nil {
		v.progress, v.measured = e.Progress, e.Timestamp
	}
	if e.Loss != nil {
		v.loss = e.Loss
	}
	if e.SamplesPerSec != nil {
		v.rate = e.SamplesPerSec
	}
}

// addLoss notes a measurement on its stage's curve.
func (s *State) addLoss(e api.Event) {
	if s.curves == nil {
		s.curves = map[string]*curve{}
	}
	if s.curves[e.Stage] == nil {
		s.curves[e.Stage] = &curve{}
	}
	step := int64(-1)
	if e.Step != nil {
		step = *e.Step
	}
	s.curves[e.Stage].add(step, *e.Loss)
	s.measured = e.Stage
}

// Losses is the curve so far, of the stage that measured last.
func (s *State) Losses() []float64 {
	c := s.curves[s.measured]
	if c == nil {
		return nil
	}
	return c.values()
}

// Waiting says in words why a stage does not run, or nothing if it does or has
// ended.
func Waiting(job api.JobDetail, stage api.Stage, now time.Time) string {
	switch stage.State {
	case api.StagePending:
		var names []string
		for _, before := range stage.After {
			for _, other := range job.Stages {
				if other.Name == before && !other.State.Done() {
					names = append(names, before)
				}
			}
		}
		if len(names) == 0 {
			return ""
		}
		return "waits for " + join(names)
	case api.StageReady:
		if stage.NotBefore != nil && stage.NotBefore.After(now) {
			return "tries again in " + format.Duration(stage.NotBefore.Sub(now))
		}
		if stage.WaitReason != "" {
			return stage.WaitReason
		}
		return "waits for a placement"
	}
	return ""
}

func join(names []string) string {
	switch len(names) {
	case 1:
		return names[0]
	case 2:
		return names[0] + " and " + names[1]
	}
	return names[0] + ", " + join(names[1:])
}
