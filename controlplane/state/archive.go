package state

import (
	"slices"

	"github.com/tunemesh/tunemesh/api"
)

// ArchiveEvents records that a part of a job's events stands in the object
// store. A part that does not begin where the recorded ones end is no success
// and no error: another leader was faster (Created false).
type ArchiveEvents struct {
	JobID string           `json:"job_id"`
	Part  api.EventArchive `json:"part"`
}

// Kind implements Command.
func (ArchiveEvents) Kind() string { return "archive_events" }

// maxArchives bounds a job's parts: one for each time that it ended, and for
// late lines.
const maxArchives = 1000

func (c ArchiveEvents) apply(m *mutation) (Result, error) {
	have, err := m.job(c.JobID)
	if err != nil {
		return Result{}, err
	}
	end := uint64(0)
	if n := len(have.Archives); n > 0 {
		end = have.Archives[n-1].Last
	}
	switch {
	case c.Part.First != end+1:
		return Result{}, nil
	case c.Part.Last < c.Part.First:
		return Result{}, invalid("part.last", "is %d, before the first event %d", c.Part.Last, c.Part.First)
	case len(have.Archives) >= maxArchives:
		return Result{}, invalid("part", "the events of job %q have %d parts already", c.JobID, maxArchives)
	}
	j := *have
	// Only the newest part says where the stream goes on: the lists would grow.
	j.Archives = slices.Clone(have.Archives)
	if n := len(j.Archives); n > 0 {
		j.Archives[n-1].Sources = nil
	}
	j.Archives = append(j.Archives, c.Part)
	j.Index = m.index
	m.put(tableJobs, &j)
	return Result{Created: true}, nil
}

// EventArchives returns the parts of a job's events that stand in the object
// store, oldest first; none for an unknown job.
func (v View) EventArchives(jobID string) []api.EventArchive {
	if r := first[jobRow](v.begin(), tableJobs, "id", jobID); r != nil {
		return r.Archives
	}
	return nil
}

// LastTransition is the number of a job's newest transition, 0 for an unknown
// job.
func (v View) LastTransition(jobID string) uint64 {
	if r := first[jobRow](v.begin(), tableJobs, "id", jobID); r != nil {
		return r.LastTransition
	}
	return 0
}
