package state

import (
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// Command is one change of the state. The set is closed: the types in this
// file and in commands_cluster.go. Names are verb and noun, as in the routes and the CLI.
type Command interface {
	// Kind is the command's name in the log.
	Kind() string
	// apply changes the state in m's transaction. A domain error (type *Error)
	// leaves the state as it was; any other error is a fault of the program.
	apply(m *mutation) (Result, error)
}

// Result is what a command did.
type Result struct {
	// Index is the Raft index of the entry.
	Index uint64
	// Created is false when a repeated command found its work already done.
	Created bool
	// Fence and Number are those of the attempt that PlaceAttempt made.
	Fence  uint64
	Number int
	// Errs answers ReportAttempts report by report, PlaceAttempts placement by
	// placement; nil entries are successes.
	Errs []error
	// Placed are the attempts that PlaceAttempts made, placement by placement;
	// a zero fence is one that was refused.
	Placed []Placed
	// Err is the domain error of the command as a whole.
	Err error
}

// CreateJob makes a job and its stages. The same id with the same spec and
// creator is the same job (Created false); with another it is a conflict.
type CreateJob struct {
	// Spec is what was submitted; Spec.ID is set.
	Spec api.JobSpec `json:"spec"`
	// Pipeline is the normalized and validated pipeline. It is in the command
	// because defaults may differ between versions of the program.
	Pipeline  api.Pipeline `json:"pipeline"`
	Model     string       `json:"model,omitempty"`
	CreatedBy string       `json:"created_by,omitempty"`
	// TraceParent is the span of the submit.
	TraceParent string    `json:"trace_parent,omitempty"`
	At          time.Time `json:"at"`
}

// CancelJob cancels all stages and attempts of a job that are not terminal, at
// once: agents see the attempts vanish from their desired set. To cancel a
// cancelled job is a success; a succeeded or failed one is a conflict.
type CancelJob struct {
	JobID  string    `json:"job_id"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// ResumeJob makes the failed and cancelled stages of a job pending or ready
// again, with no tries used, and removes its dead letters. Succeeded stages are
// never repeated. A job that runs without failed stages is left as it is.
type ResumeJob struct {
	JobID string    `json:"job_id"`
	By    string    `json:"by,omitempty"`
	At    time.Time `json:"at"`
}

// PlaceAttempt places one attempt of a ready stage on a node. Its fence is the
// Raft index of the entry; where the mesh speaks protocol version 3, that of a
// batch of one (see PlaceAttempts).
type PlaceAttempt struct {
	JobID   string      `json:"job_id"`
	Stage   string      `json:"stage"`
	NodeID  string      `json:"node_id"`
	Devices api.Devices `json:"devices"`
	// Slot names something of which a node has one, such as "training"; no two
	// live attempts on a node hold the same. Empty: none.
	Slot string `json:"slot,omitempty"`
	// TraceParent is the span of the placement.
	TraceParent string    `json:"trace_parent,omitempty"`
	At          time.Time `json:"at"`
}

// ReportAttempts takes reports of starts and ends, several in one entry. Each
// is accepted only if its fence is the stage's current one and the attempt is
// not terminal. A report that says again what was accepted is a success;
// anything else gets ErrStaleFence, in Result.Errs.
type ReportAttempts struct {
	Reports []Report `json:"reports"`
}

// Report is one attempt's report with what the proposer adds to it.
type Report struct {
	Fence  uint64            `json:"fence"`
	Report api.AttemptReport `json:"report"`
	At     time.Time         `json:"at"`
	// RetryAt is when the next attempt may start, should there be one.
	RetryAt time.Time `json:"retry_at,omitzero"`
	// Keep says that the artifacts of an attempt that failed are kept too, until
	// the next attempt. Entries of before there was this field do not have it,
	// and give the state they always gave.
	Keep bool `json:"keep,omitempty"`
	// LastEvents go into the dead letter, should there be one.
	LastEvents []api.Event `json:"last_events,omitempty"`
}

// RecordCheckpoint makes an uploaded checkpoint of a live attempt known. One
// with the same name replaces the older; the newest MaxCheckpoints are kept.
type RecordCheckpoint struct {
	Fence uint64               `json:"fence"`
	Saved api.CheckpointReport `json:"saved"`
	At    time.Time            `json:"at"`
}

// MarkUnknown says that the nodes of these attempts fell silent. Attempts that
// are terminal by then are left alone, as in the two that follow.
type MarkUnknown struct {
	Fences []uint64  `json:"fences"`
	At     time.Time `json:"at"`
}

// MarkLost gives attempts up; their stages become ready again. A lost attempt
// uses up no try, but counts towards MaxInterruptions.
type MarkLost struct {
	Losses []Loss    `json:"losses"`
	At     time.Time `json:"at"`
}

// Loss is one attempt that is given up.
type Loss struct {
	Fence   uint64    `json:"fence"`
	Reason  string    `json:"reason"`
	RetryAt time.Time `json:"retry_at,omitzero"`
}

// Reconnected says that the nodes of these attempts are back in time: what was
// unknown is running again (or placed, if it had not started).
type Reconnected struct {
	Fences []uint64  `json:"fences"`
	At     time.Time `json:"at"`
}

// MarkPublished says that the copies under well-known names of these stages'
// artifacts are written.
type MarkPublished struct {
	Stages []StageRef `json:"stages"`
	At     time.Time  `json:"at"`
}

// StageRef names a stage's result.
type StageRef struct {
	JobID string `json:"job_id"`
	Stage string `json:"stage"`
	Fence uint64 `json:"fence"`
}

// TrimTransitions forgets transitions that stand in the event log.
type TrimTransitions struct {
	JobID string `json:"job_id"`
	// Upto is the number of the last transition to forget.
	Upto uint64 `json:"upto"`
}

// UpsertNode registers a node or changes what is known of it. JoinedAt and
// Drain of a known node stay; another public key is a conflict.
type UpsertNode struct {
	Node api.Node  `json:"node"`
	At   time.Time `json:"at"`
}

// SetDrain stops or allows new placements on a node.
type SetDrain struct {
	NodeID string `json:"node_id"`
	Drain  bool   `json:"drain"`
}

// CreateDataset records an uploaded file. The same id with the same bytes is
// the same dataset.
type CreateDataset struct {
	Dataset api.Dataset `json:"dataset"`
}

// CreateModel records a base model. The same name with the same hash is the
// same model; with another it is a conflict unless Replace is set.
type CreateModel struct {
	Model   api.Model `json:"model"`
	Replace bool      `json:"replace,omitempty"`
	// Keep leaves the jobs that have not succeeded with the files that the name
	// had so far. Amend takes what is said of the same files (architecture,
	// parameters, licence, whether they are bundled) in the place of what was said
	// before. Both may be set from SinceKeptModels on.
	Keep  bool `json:"keep,omitempty"`
	Amend bool `json:"amend,omitempty"`
}

// CreateToken records a token by its hash. The same id with the same hash is
// the same token.
type CreateToken struct {
	Token api.Token `json:"token"`
}

// RevokeToken forgets a token.
type RevokeToken struct {
	ID string `json:"id"`
}

// Server is one server of the control plane.
type Server struct {
	ID          string `json:"id"`
	RaftAddress string `json:"raft_address"`
	// HTTPAddress is the base URL under which others reach its API.
	HTTPAddress string `json:"http_address"`
	// Name is what people call it; GossipAddress is host:port of its gossip.
	Name          string `json:"name,omitempty"`
	GossipAddress string `json:"gossip_address,omitempty"`
	// Version and Protocol are those of its program; 0 means 1.
	Version  string `json:"version,omitempty"`
	Protocol int    `json:"protocol,omitempty"`
	Index    uint64 `json:"index"`
}

// UpsertServer records where a server can be reached.
type UpsertServer struct {
	Server Server `json:"server"`
}

// RemoveServer forgets a server.
type RemoveServer struct {
	ID string `json:"id"`
}

// SetMinVersion raises the protocol version that every server and agent speaks;
// newer command kinds may be proposed from then on. It never sinks.
type SetMinVersion struct {
	Version int `json:"version"`
}

// Kinds of commands as they stand in the log.

func (CreateJob) Kind() string        { return "create_job" }
func (CancelJob) Kind() string        { return "cancel_job" }
func (ResumeJob) Kind() string        { return "resume_job" }
func (PlaceAttempt) Kind() string     { return "place_attempt" }
func (ReportAttempts) Kind() string   { return "report_attempts" }
func (RecordCheckpoint) Kind() string { return "record_checkpoint" }
func (MarkUnknown) Kind() string      { return "mark_unknown" }
func (MarkLost) Kind() string         { return "mark_lost" }
func (Reconnected) Kind() string      { return "reconnected" }
func (MarkPublished) Kind() string    { return "mark_published" }
func (TrimTransitions) Kind() string  { return "trim_transitions" }
func (UpsertNode) Kind() string       { return "upsert_node" }
func (SetDrain) Kind() string         { return "set_drain" }
func (CreateDataset) Kind() string    { return "create_dataset" }
func (CreateModel) Kind() string      { return "create_model" }
func (CreateToken) Kind() string      { return "create_token" }
func (RevokeToken) Kind() string      { return "revoke_token" }
func (UpsertServer) Kind() string     { return "upsert_server" }
func (RemoveServer) Kind() string     { return "remove_server" }
func (SetMinVersion) Kind() string    { return "set_min_version" }
