package state

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hashicorp/go-memdb"

	"github.com/tunemesh/tunemesh/api"
)

// Names of the tables. They are those of the snapshot too.
const (
	tableJobs        = "jobs"
	tableStages      = "stages"
	tableAttempts    = "attempts"
	tableTransitions = "transitions"
	tableDesired     = "desired"
	tableDatasets    = "datasets"
	tableModels      = "models"
	tableNodes       = "nodes"
	tableTokens      = "tokens"
	tableDead        = "dead_letters"
	tableServers     = "servers"
	tableMeta        = "meta"
	tableCluster     = "cluster"
	tableRestores    = "restores" // in no snapshot
)

// Rows. They are stored as pointers and never changed once stored.
type (
	jobRow struct {
		api.Job
		// LastTransition is the number of the job's newest transition.
		LastTransition uint64 `json:"last_transition,omitempty"`
		// Archives are the parts of the job's events in the object store.
		Archives []api.EventArchive `json:"archives,omitempty"`
		// Base are the files of the base model that the job began with, since
		// another model has its name; nil: those that the name has.
		Base []api.Artifact `json:"base,omitempty"`
	}
	stageRow struct {
		api.Stage
		// Pos is the stage's place in topological order.
		Pos int `json:"pos"`
		// Interruptions counts what ended attempts without using up tries.
		Interruptions int `json:"interruptions,omitempty"`
	}
	attemptRow struct {
		api.Attempt
		Slot string `json:"slot,omitempty"`
		// ReportSum is the SHA-256 of the report that ended the attempt, by
		// which a repeat is known.
		ReportSum string `json:"report_sum,omitempty"`
	}
	// desiredRow says when a node's desired set changed last.
	desiredRow struct {
		NodeID string `json:"node_id"`
		Index  uint64 `json:"index"`
	}
	// clusterRow is the one row of what the cluster is, as a whole.
	clusterRow struct {
		Key      string              `json:"key"`
		Keyring  Keyring             `json:"keyring"`
		Settings api.ClusterSettings `json:"settings"`
		Gossip   *GossipKeys         `json:"gossip,omitempty"` // once its key was exchanged
		Index    uint64              `json:"index"`
	}
	metaRow struct {
		Key   string `json:"key"`
		Value uint64 `json:"value"`
	}
)

// Keys of the meta table.
const (
	metaIndex      = "index"
	metaMinVersion = "min_version"
)

// Transition is one change of a stage's state, or of its job's if Stage is
// empty. Numbers count from 1 per job without holes.
type Transition struct {
	JobID   string    `json:"job_id"`
	Number  uint64    `json:"number"`
	Stage   string    `json:"stage,omitempty"`
	From    string    `json:"from,omitempty"`
	To      string    `json:"to"`
	Attempt int       `json:"attempt,omitempty"`
	Fence   uint64    `json:"fence,omitempty"`
	Node    string    `json:"node,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Code    string    `json:"code,omitempty"`
	At      time.Time `json:"at"`
	Index   uint64    `json:"index"`
}

// key indexes rows of type R by what parts returns: strings, uint64s or times;
// ok false leaves a row out of the index. Strings end with a zero byte, numbers
// are big-endian, so that keys sort as their parts do and a prefix of the parts
// is a prefix of the key.
type key[R any] struct {
	parts func(r *R) (parts []any, ok bool)
}

func (k key[R]) FromObject(raw any) (bool, []byte, error) {
	r, ok := raw.(*R)
	if !ok {
		return false, nil, fmt.Errorf("state: row is a %T", raw)
	}
	parts, ok := k.parts(r)
	if !ok {
		return false, nil, nil
	}
	b, err := encodeKey(parts)
	return err == nil, b, err
}

func (k key[R]) FromArgs(args ...any) ([]byte, error)       { return encodeKey(args) }
func (k key[R]) PrefixFromArgs(args ...any) ([]byte, error) { return encodeKey(args) }

func encodeKey(parts []any) ([]byte, error) {
	var b []byte
	for _, p := range parts {
		switch v := p.(type) {
		case string:
			b = append(append(b, v...), 0)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, v)
		case time.Time:
			// Shifted so that times before 1970 sort first.
			b = binary.BigEndian.AppendUint64(b, uint64(v.UnixNano())^(1<<63))
		default:
			return nil, fmt.Errorf("state: %T cannot be part of a key", p)
		}
	}
	return b, nil
}

func unique[R any](parts func(r *R) []any) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: "id", Unique: true, Indexer: key[R]{func(r *R) ([]any, bool) { return parts(r), true }}}
}

func partial[R any](name string, parts func(r *R) ([]any, bool)) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, AllowMissing: true, Indexer: key[R]{parts}}
}

func table(name string, indexes ...*memdb.IndexSchema) *memdb.TableSchema {
	t := &memdb.TableSchema{Name: name, Indexes: map[string]*memdb.IndexSchema{}}
	for _, i := range indexes {
		t.Indexes[i.Name] = i
	}
	return t
}

func schema() *memdb.DBSchema {
	s := &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{}}
	for _, t := range []*memdb.TableSchema{
		table(tableJobs,
			unique(func(r *jobRow) []any { return []any{r.ID} }),
			partial("created", func(r *jobRow) ([]any, bool) { return []any{r.CreatedAt, r.ID}, true }),
			partial("changed", func(r *jobRow) ([]any, bool) { return []any{r.Index}, true })),
		table(tableStages,
			unique(func(r *stageRow) []any { return []any{r.JobID, uint64(r.Pos)} }),
			partial("name", func(r *stageRow) ([]any, bool) { return []any{r.JobID, r.Name}, true }),
			partial("ready", func(r *stageRow) ([]any, bool) { return []any{"ready"}, r.State == api.StageReady }),
			partial("unpublished", func(r *stageRow) ([]any, bool) {
				return []any{"unpublished"}, r.State == api.StageSucceeded && !r.Published
			})),
		table(tableAttempts,
			unique(func(r *attemptRow) []any { return []any{r.Fence} }),
			partial("job", func(r *attemptRow) ([]any, bool) { return []any{r.JobID}, true }),
			partial("live", func(r *attemptRow) ([]any, bool) { return []any{r.NodeID}, !r.State.Terminal() })),
		table(tableTransitions,
			unique(func(r *Transition) []any { return []any{r.JobID, r.Number} })),
		table(tableDesired, unique(func(r *desiredRow) []any { return []any{r.NodeID} })),
		table(tableDatasets, unique(func(r *api.Dataset) []any { return []any{r.ID} })),
		table(tableModels, unique(func(r *api.Model) []any { return []any{r.Name} })),
		table(tableNodes, unique(func(r *api.Node) []any { return []any{r.ID} })),
		table(tableTokens,
			unique(func(r *api.Token) []any { return []any{r.ID} }),
			partial("node", func(r *api.Token) ([]any, bool) { return []any{r.NodeID}, r.NodeID != "" }),
			partial("hash", func(r *api.Token) ([]any, bool) { return []any{string(r.Hash)}, len(r.Hash) > 0 })),
		table(tableDead, unique(func(r *api.DeadLetter) []any { return []any{r.JobID, r.Stage} })),
		table(tableServers, unique(func(r *Server) []any { return []any{r.ID} })),
		table(tableCluster, unique(func(r *clusterRow) []any { return []any{r.Key} })),
		table(tableRestores, unique(func(r *metaRow) []any { return []any{r.Key} })),
		table(tableMeta, unique(func(r *metaRow) []any { return []any{r.Key} })),
	} {
		s.Tables[t.Name] = t
	}
	return s
}
