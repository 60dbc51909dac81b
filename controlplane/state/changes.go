package state

import (
	"slices"

	"github.com/hashicorp/go-memdb"

	"github.com/tunemesh/tunemesh/api"
)

// Restores is how often the state was replaced as a whole. Who remembers what it
// read must read all of it anew when the number is another one: rows of a backup
// carry indexes that another history gave out.
func (v View) Restores() uint64 {
	if m := first[metaRow](v.begin(), tableRestores, "id", tableRestores); m != nil {
		return m.Value
	}
	return 0
}

// countRestore counts in a table that no snapshot holds: it is this server's own.
func countRestore(txn *memdb.Txn) error {
	next := metaRow{Key: tableRestores, Value: 1}
	if m := first[metaRow](txn, tableRestores, "id", tableRestores); m != nil {
		next.Value += m.Value
	}
	return txn.Insert(tableRestores, &next)
}

// BacklogsSince is TransitionBacklogs without the jobs of which the index after
// had all transitions already, by index.
func (v View) BacklogsSince(after uint64) []Backlog {
	txn := v.begin()
	it, err := txn.LowerBound(tableJobs, "changed", after+1)
	if err != nil {
		return nil
	}
	var out []Backlog
	for raw := it.Next(); raw != nil; raw = it.Next() {
		if b, ok := backlogOf(txn, raw.(*jobRow)); ok {
			out = append(out, b)
		}
	}
	return out
}

// Backlog returns a job's backlog; ok is false if there is none.
func (v View) Backlog(jobID string) (b Backlog, ok bool) {
	txn := v.begin()
	j := first[jobRow](txn, tableJobs, "id", jobID)
	if j == nil {
		return Backlog{}, false
	}
	return backlogOf(txn, j)
}

func backlogOf(txn *memdb.Txn, j *jobRow) (Backlog, bool) {
	b := Backlog{JobID: j.ID, Last: j.LastTransition, Terminal: j.State.Terminal()}
	return b, first[Transition](txn, tableTransitions, "id_prefix", j.ID) != nil
}

// EachReady calls fn for the stages that wait for a placement, by job and
// position, each with its job. Both are the state's own and must not be changed:
// a hundred thousand waiting stages are too many to copy for each plan.
func (v View) EachReady(fn func(*api.Job, *api.Stage)) {
	txn := v.begin()
	it, err := txn.Get(tableStages, "ready", "ready")
	if err != nil {
		return
	}
	var job *jobRow
	for raw := it.Next(); raw != nil; raw = it.Next() {
		s := raw.(*stageRow)
		if job == nil || job.ID != s.JobID {
			if job = first[jobRow](txn, tableJobs, "id", s.JobID); job == nil {
				job = &jobRow{Job: api.Job{JobSpec: api.JobSpec{ID: s.JobID}}}
			}
		}
		fn(&job.Job, &s.Stage)
	}
}

// UsageOf is what the live attempts on a node reserve.
func (v View) UsageOf(nodeID string) Usage {
	u := Usage{NodeID: nodeID}
	for _, a := range all[attemptRow](v.begin(), tableAttempts, "live", nodeID) {
		u.add(a)
	}
	return u
}

// Ancestors lists what comes before a stage, in topological order, without
// reading the rest of the job.
func (v View) Ancestors(stage api.Stage) []api.Stage {
	if len(stage.After) == 0 {
		return nil
	}
	txn := v.begin()
	known := map[string]bool{}
	var rows []*stageRow
	for queue := stage.After; len(queue) > 0; queue = queue[1:] {
		if known[queue[0]] {
			continue
		}
		known[queue[0]] = true
		if r := first[stageRow](txn, tableStages, "name", stage.JobID, queue[0]); r != nil {
			rows = append(rows, r)
			queue = slices.Concat(queue, r.After)
		}
	}
	slices.SortFunc(rows, func(a, b *stageRow) int { return a.Pos - b.Pos })
	return stagesOf(rows)
}

// EachNode gives f every node in the order of ids, and the index at which its
// desired set changed last (0: never). Rows are the state's own: not to be
// changed.
func (v View) EachNode(f func(n *api.Node, desired uint64)) {
	txn := v.begin()
	nodes, err := txn.Get(tableNodes, "id_prefix")
	if err != nil {
		return
	}
	desired, err := txn.Get(tableDesired, "id_prefix")
	if err != nil {
		return
	}
	row, _ := desired.Next().(*desiredRow)
	for raw := nodes.Next(); raw != nil; raw = nodes.Next() {
		n := raw.(*api.Node)
		for row != nil && row.NodeID < n.ID {
			row, _ = desired.Next().(*desiredRow)
		}
		index := uint64(0)
		if row != nil && row.NodeID == n.ID {
			index = row.Index
		}
		f(n, index)
	}
}
