package state

import (
	"slices"

	"github.com/hashicorp/go-memdb"

	"github.com/tunemesh/tunemesh/api"
)

// View reads the state. What it returns are copies of rows; slices and maps in
// them are shared with the state and must not be changed. Lists come in a fixed
// order. A single thing that is not there is ErrNotFound.
type View struct {
	begin func() *memdb.Txn
}

// Index is the Raft index of the newest entry in the state, 0 for none.
func (v View) Index() uint64 {
	if m := first[metaRow](v.begin(), tableMeta, "id", metaIndex); m != nil {
		return m.Value
	}
	return 0
}

// MinVersion is the protocol version that all of the mesh speaks, at least 1.
func (v View) MinVersion() int {
	if m := first[metaRow](v.begin(), tableMeta, "id", metaMinVersion); m != nil {
		return int(m.Value)
	}
	return 1
}

// Job returns a job.
func (v View) Job(id string) (api.Job, error) {
	r := first[jobRow](v.begin(), tableJobs, "id", id)
	if r == nil {
		return api.Job{}, notFound("there is no job %q", id)
	}
	return r.Job, nil
}

// JobFilter says which jobs to list; zero fields say nothing.
type JobFilter struct {
	State     api.JobState
	CreatedBy string
	Dataset   string
	// Before is the id of the last job of the page before this one.
	Before string
}

// Jobs lists jobs, newest first, at most limit (0: all).
func (v View) Jobs(f JobFilter, limit int) ([]api.Job, error) {
	txn := v.begin()
	it, err := txn.GetReverse(tableJobs, "created")
	if f.Before != "" {
		last := first[jobRow](txn, tableJobs, "id", f.Before)
		if last == nil {
			return nil, notFound("there is no job %q to list from", f.Before)
		}
		it, err = txn.ReverseLowerBound(tableJobs, "created", last.CreatedAt, last.ID)
	}
	if err != nil {
		return nil, err
	}
	jobs := []api.Job{}
	for raw := it.Next(); raw != nil && (limit <= 0 || len(jobs) < limit); raw = it.Next() {
		j := raw.(*jobRow).Job
		if j.ID == f.Before || f.State != "" && j.State != f.State ||
			f.CreatedBy != "" && j.CreatedBy != f.CreatedBy || f.Dataset != "" && j.Dataset != f.Dataset {
			continue
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// Stages returns a job's stages in topological order.
func (v View) Stages(jobID string) ([]api.Stage, error) {
	txn := v.begin()
	if first[jobRow](txn, tableJobs, "id", jobID) == nil {
		return nil, notFound("there is no job %q", jobID)
	}
	return stagesOf(all[stageRow](txn, tableStages, "id_prefix", jobID)), nil
}

// Stage returns one stage of a job.
func (v View) Stage(jobID, name string) (api.Stage, error) {
	r := first[stageRow](v.begin(), tableStages, "name", jobID, name)
	if r == nil {
		return api.Stage{}, notFound("there is no stage %q in a job %q", name, jobID)
	}
	return r.Stage, nil
}

// Interruptions is how often attempts of a stage ended without using up a try,
// since the job was submitted or resumed.
func (v View) Interruptions(jobID, stage string) int {
	if r := first[stageRow](v.begin(), tableStages, "name", jobID, stage); r != nil {
		return r.Interruptions
	}
	return 0
}

// ReadyStages lists the stages that wait for a placement, by job and position.
func (v View) ReadyStages() []api.Stage {
	return stagesOf(all[stageRow](v.begin(), tableStages, "ready", "ready"))
}

// UnpublishedStages lists the succeeded stages whose well-known copies are not
// written.
func (v View) UnpublishedStages() []api.Stage {
	return stagesOf(all[stageRow](v.begin(), tableStages, "unpublished", "unpublished"))
}

func stagesOf(rows []*stageRow) []api.Stage {
	stages := make([]api.Stage, len(rows))
	for i, r := range rows {
		stages[i] = r.Stage
	}
	return stages
}

// Attempt returns the attempt with a fence.
func (v View) Attempt(fence uint64) (api.Attempt, error) {
	r := first[attemptRow](v.begin(), tableAttempts, "id", fence)
	if r == nil {
		return api.Attempt{}, notFound("there is no attempt with the fence %d", fence)
	}
	return r.Attempt, nil
}

// Attempts lists a job's attempts, oldest first.
func (v View) Attempts(jobID string) []api.Attempt {
	return attemptsOf(all[attemptRow](v.begin(), tableAttempts, "job", jobID))
}

// AttemptsOnNode lists a node's desired set: its attempts that are not
// terminal, oldest first.
func (v View) AttemptsOnNode(nodeID string) []api.Attempt {
	return attemptsOf(all[attemptRow](v.begin(), tableAttempts, "live", nodeID))
}

// Desired returns a node's desired set and the index of its last change, by
// which an agent that polls knows what it has.
func (v View) Desired(nodeID string) ([]api.Attempt, uint64) {
	txn := v.begin()
	attempts := attemptsOf(all[attemptRow](txn, tableAttempts, "live", nodeID))
	if d := first[desiredRow](txn, tableDesired, "id", nodeID); d != nil {
		return attempts, d.Index
	}
	return attempts, 0
}

func attemptsOf(rows []*attemptRow) []api.Attempt {
	attempts := make([]api.Attempt, len(rows))
	for i, r := range rows {
		attempts[i] = r.Attempt
	}
	slices.SortFunc(attempts, func(a, b api.Attempt) int {
		if a.Fence < b.Fence {
			return -1
		}
		return 1
	})
	return attempts
}

// Usage is what the live attempts on a node reserve.
type Usage struct {
	NodeID      string
	CPUCores    int
	MemoryBytes int64
	GPUs        []int
	Slots       []string
	Attempts    int
}

// Usages lists what is reserved, by node id; nodes without attempts are absent.
func (v View) Usages() []Usage {
	var out []Usage
	it, err := v.begin().Get(tableAttempts, "live_prefix")
	if err != nil {
		return nil
	}
	for raw := it.Next(); raw != nil; raw = it.Next() {
		a := raw.(*attemptRow)
		if len(out) == 0 || out[len(out)-1].NodeID != a.NodeID {
			out = append(out, Usage{NodeID: a.NodeID})
		}
		out[len(out)-1].add(a)
	}
	return out
}

func (u *Usage) add(a *attemptRow) {
	u.CPUCores += a.Devices.CPUCores
	u.MemoryBytes += a.Devices.MemoryBytes
	u.GPUs = append(u.GPUs, a.Devices.GPUs...)
	if a.Slot != "" {
		u.Slots = append(u.Slots, a.Slot)
	}
	u.Attempts++
}

// Nodes lists the nodes by id.
func (v View) Nodes() []api.Node {
	return copies(all[api.Node](v.begin(), tableNodes, "id_prefix"))
}

// Node returns a node.
func (v View) Node(id string) (api.Node, error) {
	r := first[api.Node](v.begin(), tableNodes, "id", id)
	if r == nil {
		return api.Node{}, notFound("there is no node %q", id)
	}
	return *r, nil
}

// Datasets lists the datasets, newest first.
func (v View) Datasets() []api.Dataset {
	list := copies(all[api.Dataset](v.begin(), tableDatasets, "id_prefix"))
	slices.SortStableFunc(list, func(a, b api.Dataset) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return list
}

// Dataset returns a dataset.
func (v View) Dataset(id string) (api.Dataset, error) {
	r := first[api.Dataset](v.begin(), tableDatasets, "id", id)
	if r == nil {
		return api.Dataset{}, notFound("there is no dataset %q", id)
	}
	return *r, nil
}

// Tokens lists the tokens by id.
func (v View) Tokens() []api.Token {
	return copies(all[api.Token](v.begin(), tableTokens, "id_prefix"))
}

// Token returns a token.
func (v View) Token(id string) (api.Token, error) {
	r := first[api.Token](v.begin(), tableTokens, "id", id)
	if r == nil {
		return api.Token{}, notFound("there is no token %q", id)
	}
	return *r, nil
}

// TokenByHash returns the token whose secret has this SHA-256.
func (v View) TokenByHash(hash []byte) (api.Token, error) {
	r := first[api.Token](v.begin(), tableTokens, "hash", string(hash))
	if r == nil || len(hash) == 0 {
		return api.Token{}, notFound("there is no such token")
	}
	return *r, nil
}

// DeadLetters lists a job's dead letters by stage name; of all jobs if jobID is
// empty.
func (v View) DeadLetters(jobID string) []api.DeadLetter {
	var args []any
	if jobID != "" {
		args = []any{jobID}
	}
	return copies(all[api.DeadLetter](v.begin(), tableDead, "id_prefix", args...))
}

// Servers lists the control plane's servers by id.
func (v View) Servers() []Server {
	return copies(all[Server](v.begin(), tableServers, "id_prefix"))
}

// Server returns a server.
func (v View) Server(id string) (Server, error) {
	r := first[Server](v.begin(), tableServers, "id", id)
	if r == nil {
		return Server{}, notFound("there is no server %q", id)
	}
	return *r, nil
}

// Transitions lists a job's transitions with numbers above after.
func (v View) Transitions(jobID string, after uint64) []Transition {
	it, err := v.begin().LowerBound(tableTransitions, "id", jobID, after+1)
	if err != nil {
		return nil
	}
	var out []Transition
	for raw := it.Next(); raw != nil; raw = it.Next() {
		t := raw.(*Transition)
		if t.JobID != jobID {
			break
		}
		out = append(out, *t)
	}
	return out
}

// Backlog is a job with transitions that are not trimmed.
type Backlog struct {
	JobID string
	// Last is the number of the newest one.
	Last     uint64
	Terminal bool
}

// TransitionBacklogs lists the jobs whose transitions are not trimmed, by id.
func (v View) TransitionBacklogs() []Backlog {
	txn := v.begin()
	var out []Backlog
	start := ""
	for {
		it, err := txn.LowerBound(tableTransitions, "id", start)
		if err != nil {
			return out
		}
		raw := it.Next()
		if raw == nil {
			return out
		}
		id := raw.(*Transition).JobID
		if j := first[jobRow](txn, tableJobs, "id", id); j != nil {
			out = append(out, Backlog{JobID: id, Last: j.LastTransition, Terminal: j.State.Terminal()})
		}
		// The successor of all keys that start with id and a zero byte.
		start = id + "\x01"
	}
}

func copies[R any](rows []*R) []R {
	out := make([]R, len(rows))
	for i, r := range rows {
		out[i] = *r
	}
	return out
}
