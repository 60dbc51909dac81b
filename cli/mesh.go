package cli

import (
	"context"
	"io"

	"github.com/tunemesh/tunemesh/api"
)

// Mesh is what the verbs need of a control plane; *client.Client is one.
type Mesh interface {
	UploadDataset(ctx context.Context, name string, body io.Reader, size int64) (api.Dataset, error)
	Datasets(ctx context.Context) ([]api.Dataset, error)
	Dataset(ctx context.Context, id string) (api.Dataset, error)

	SubmitJob(ctx context.Context, spec api.JobSpec) (api.JobDetail, error)
	PlanJob(ctx context.Context, spec api.JobSpec) (api.JobPlan, error)
	Jobs(ctx context.Context) ([]api.Job, error)
	CancelJob(ctx context.Context, id, reason string) (api.JobDetail, error)
	ResumeJob(ctx context.Context, id string) (api.JobDetail, error)
	DeadLetters(ctx context.Context, jobID string) ([]api.DeadLetter, error)
	Watched

	Artifacts(ctx context.Context, jobID string) ([]api.StageArtifact, error)
	Download(ctx context.Context, a api.Artifact, w io.Writer) error

	Nodes(ctx context.Context) ([]api.Node, error)
	Node(ctx context.Context, id string) (api.Node, error)
	DrainNode(ctx context.Context, id string, drain bool) (api.Node, error)
	Models(ctx context.Context) ([]api.Model, error)
	Model(ctx context.Context, name string) (api.Model, error)
	DatasetFile(ctx context.Context, id string) (api.Artifact, error)
	ModelFiles(ctx context.Context, name string) ([]api.Artifact, error)
	ModelObjects(ctx context.Context, name string) ([]api.Artifact, error)
	RequestModelUploads(ctx context.Context, name string, files []api.ModelFile) ([]api.Artifact, error)
	SendModelFile(ctx context.Context, model string, files []api.ModelFile, to api.Artifact, from io.ReaderAt, moved func(int64)) error
	CreateModel(ctx context.Context, name string, m api.ModelManifest) (api.Model, error)
	Version(ctx context.Context) (api.Version, error)
	Ready(ctx context.Context) error
}

// Watched is what watching a job needs.
type Watched interface {
	Job(ctx context.Context, id string) (api.JobDetail, error)
	// Events calls fn for each event after number after; with follow it waits for
	// more, resumes broken connections and returns nil when the job has ended.
	Events(ctx context.Context, jobID string, after uint64, follow bool, fn func(api.Event) error) error
}
