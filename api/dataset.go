package api

import "time"

// Dataset is an uploaded file and what is known of it; it never changes.
type Dataset struct {
	ID        string    `json:"id" doc:"ds_ and the first 16 hex digits of the file's SHA-256" example:"ds_3f2a9c41d07b8e65"`
	Name      string    `json:"name" example:"support-tickets.csv"`
	Format    string    `json:"format" doc:"csv, tsv or jsonl, by the name's ending; auto if that says nothing" example:"csv"`
	Size      int64     `json:"size" doc:"bytes"`
	SHA256    string    `json:"sha256"`
	Key       string    `json:"key" doc:"in bucket datasets" example:"raw/ds_3f2a9c41d07b8e65.csv"`
	CreatedBy string    `json:"created_by,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	Index     uint64    `json:"index"`
}

// Model is a base model in the mesh.
type Model struct {
	Name         string     `json:"name" example:"tunemesh-mini"`
	Architecture string     `json:"architecture" example:"LlamaForCausalLM"`
	Parameters   int64      `json:"parameters,omitempty"`
	Files        []Artifact `json:"files"`
	SHA256       string     `json:"sha256" doc:"of the sorted list of file names and hashes"`
	License      string     `json:"license,omitempty"`
	Source       string     `json:"source,omitempty" doc:"where the files came from, if not from somebody's disk" example:"hf:org/name@0a1b2c3d"`
	Bundled      bool       `json:"bundled,omitempty" doc:"came with the program, whose next release may bring another in its place"`
	CreatedAt    time.Time  `json:"created_at"`
	Index        uint64     `json:"index"`
}

// Buckets of the object store.
const (
	BucketDatasets    = "datasets"
	BucketModels      = "models"
	BucketCheckpoints = "checkpoints"
	BucketArtifacts   = "artifacts"
)

// Buckets lists all of them.
var Buckets = []string{BucketDatasets, BucketModels, BucketCheckpoints, BucketArtifacts}

// Artifact is bytes in the object store with a name, a size and a SHA-256.
type Artifact struct {
	Name   string `json:"name" example:"adapter/adapter_model.safetensors"`
	Bucket string `json:"bucket" example:"models"`
	Key    string `json:"key" example:"adapters/01JD.../41/adapter/adapter_model.safetensors"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// URL is a presigned link, filled in when asked for.
	URL string `json:"url,omitempty"`
}

// StageArtifact is an artifact with the stage that made it.
type StageArtifact struct {
	Stage string `json:"stage"`
	Artifact
	// OriginalName is what the user's file was called, of the dataset alone.
	OriginalName string `json:"original_name,omitempty"`
}
