package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
)

// Registration is what an agent says of itself when it starts, and whenever its
// capability changes.
//
//	PUT /v1/nodes/{id}
type Registration struct {
	Name       string            `json:"name"`
	PublicKey  []byte            `json:"public_key"`
	Labels     map[string]string `json:"labels,omitempty"`
	Capability Capability        `json:"capability"`
	Digest     string            `json:"digest"`
	Version    string            `json:"version"`
	Protocol   int               `json:"protocol"`
}

// RegistrationReply tells the agent how to behave.
type RegistrationReply struct {
	Node              Node          `json:"node"`
	HeartbeatInterval time.Duration `json:"heartbeat_interval_ns"`
	LeaseTTL          time.Duration `json:"lease_ttl_ns"`
	Protocol          int           `json:"protocol"`
	// GossipPeers are addresses to join, GossipKey the key (may be empty).
	GossipPeers []string `json:"gossip_peers,omitempty"`
	GossipKey   []byte   `json:"gossip_key,omitempty"`
	// GossipKeys are all that are to be taken, GossipKey, the one to send with,
	// first. They are several while the key is exchanged.
	GossipKeys [][]byte `json:"gossip_keys,omitempty"`
	// Servers are the base URLs of all servers, to go to when one fails.
	Servers []string `json:"servers,omitempty"`
}

// Heartbeat renews a node's lease.
//
//	POST /v1/nodes/{id}/heartbeat
type Heartbeat struct {
	SentAt  time.Time `json:"sent_at"`
	Fences  []uint64  `json:"fences" doc:"attempts that run here"`
	Digest  string    `json:"digest" doc:"of the capability; when the server's differs the agent registers again"`
	Load    NodeLoad  `json:"load"`
	Version string    `json:"version"`
	// GossipKeys is the digest (GossipKeysDigest) of the keys that the agent has;
	// when the server's differs the agent registers again. Empty: no gossip.
	GossipKeys string `json:"gossip_keys,omitempty"`
}

// GossipKeysDigest tells lists of keys apart without telling the keys.
func GossipKeysDigest(keys [][]byte) string {
	h := sha256.New()
	for _, key := range keys {
		sum := sha256.Sum256(key)
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// NodeLoad is a node's measured load.
type NodeLoad struct {
	CPUPercent      float64   `json:"cpu_percent"`
	MemoryFreeBytes int64     `json:"memory_free_bytes"`
	DiskFreeBytes   int64     `json:"disk_free_bytes"`
	GPUs            []GPULoad `json:"gpus,omitempty"`
}

// GPULoad is what a GPU does at the moment. What a device does not tell is nil.
type GPULoad struct {
	Index           int      `json:"index"`
	UtilPercent     *float64 `json:"util_percent,omitempty"`
	MemoryUsedBytes *int64   `json:"memory_used_bytes,omitempty"`
	TemperatureC    *float64 `json:"temperature_c,omitempty"`
}

// HeartbeatReply acknowledges a heartbeat.
type HeartbeatReply struct {
	Registered bool     `json:"registered" doc:"false: register (again)"`
	Stale      []uint64 `json:"stale,omitempty" doc:"fences that moved on: stop these"`
	// HeartbeatInterval is when to send the next, LeaseTTL how long this one counts;
	// both grow with the number of nodes. Zero, from a server of before protocol
	// version 3: as the registration said.
	HeartbeatInterval time.Duration `json:"heartbeat_interval_ns,omitempty"`
	LeaseTTL          time.Duration `json:"lease_ttl_ns,omitempty"`
}

// Assignments is a node's whole desired set: what is not in it must not run.
//
//	GET /v1/nodes/{id}/assignments?index=N&wait=55s
type Assignments struct {
	Index    uint64       `json:"index"`
	Attempts []Assignment `json:"attempts"`
}

// Assignment is one attempt that a node must run, with everything its stage
// needs.
type Assignment struct {
	Fence   uint64    `json:"fence"`
	JobID   string    `json:"job_id"`
	Stage   StageSpec `json:"stage"`
	Attempt int       `json:"attempt"`
	Devices Devices   `json:"devices"`
	// Config is the job's config with the stage's laid over it.
	Config         json.RawMessage            `json:"config"`
	PreviousOutput map[string]json.RawMessage `json:"previous_output"`
	// Inputs carry presigned GET URLs. Those of the pseudo-stages source and
	// model are the dataset's file and the base model's files.
	Inputs []StageArtifact `json:"inputs"`
	// BaseSource is where the base model came from, as Model.Source says it.
	BaseSource string `json:"base_source,omitempty"`
	// Checkpoint is the newest one that the control plane holds.
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`
	// TraceParent is the span that the attempt belongs under.
	TraceParent string `json:"trace_parent,omitempty"`
}

// EventBatch ships lines of one attempt. FirstSeq is the number of the first;
// lines are numbered from 1 without holes.
//
//	POST /v1/attempts/{fence}/events
type EventBatch struct {
	FirstSeq uint64  `json:"first_seq"`
	Events   []Event `json:"events"`
}

// EventAck says up to which line the server holds the attempt's events. A batch
// that starts beyond NextSeq is refused; the agent goes on from NextSeq.
type EventAck struct {
	NextSeq uint64 `json:"next_seq"`
	// Archived: the job's events are in the object store up to all that the
	// server holds of this attempt; the agent need not keep its lines.
	Archived bool `json:"archived,omitempty"`
}

// UploadRequest asks for presigned PUT URLs for an attempt's files.
//
//	POST /v1/attempts/{fence}/uploads
type UploadRequest struct {
	Files []UploadFile `json:"files"`
	// Checkpoint is set when the files are a checkpoint's.
	Checkpoint string `json:"checkpoint,omitempty"`
	// Sealed: the agent sends the headers that a link's X-Amz-SignedHeaders
	// names, so the links may bind the store to the files' hashes.
	Sealed bool `json:"sealed,omitempty"`
}

// UploadFile describes one file before it is sent.
type UploadFile struct {
	Name   string `json:"name"`
	Place  string `json:"place,omitempty" doc:"artifact, processed, adapter, merged or gguf"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// UploadReply answers in the order of the request; URL is a presigned PUT.
type UploadReply struct {
	Files []Artifact `json:"files"`
	// Have names those of a base model's files that the mesh holds already: they
	// need not be sent.
	Have []string `json:"have,omitempty"`
}

// CheckpointReport makes an uploaded checkpoint known.
//
//	POST /v1/attempts/{fence}/checkpoints
type CheckpointReport struct {
	Name  string     `json:"name"`
	Files []Artifact `json:"files"`
}

// AttemptReport is the end of an attempt, or its start (State running).
//
//	POST /v1/attempts/{fence}/report
type AttemptReport struct {
	State     AttemptState       `json:"state" doc:"running, succeeded, failed or cancelled"`
	Output    json.RawMessage    `json:"output,omitempty"`
	Metrics   map[string]float64 `json:"metrics,omitempty"`
	Artifacts []Artifact         `json:"artifacts,omitempty" doc:"what was uploaded, as the upload reply named it"`
	Error     *StageError        `json:"error,omitempty"`
	// Lines is how many lines of output the attempt has; all were shipped
	// before this report.
	Lines uint64 `json:"lines,omitempty"`
}
