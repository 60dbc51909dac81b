package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/cli/format"
)

// The clock of all tests, and ids as long as real ones.
var (
	noon  = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	jobID = "01JDCK3V5W8M2N4P6Q7R8S9T0V"
)

func ago(d time.Duration) time.Time   { return noon.Add(-d) }
func agoP(d time.Duration) *time.Time { t := ago(d); return &t }
func p[T any](v T) *T                 { return &v }

// fakeMesh is a control plane in memory.
type fakeMesh struct {
	mu        sync.Mutex
	datasets  []api.Dataset
	jobs      []api.JobDetail
	nodes     []api.Node
	models    []api.Model
	artifacts []api.StageArtifact
	letters   []api.DeadLetter
	events    []api.Event
	bytes     map[string]string // by artifact name
	objects   map[string][]api.Artifact

	submitted []api.JobSpec
	planned   []api.JobSpec
	jobPlan   *api.JobPlan // what PlanJob answers, if not the usual
	uploads   []string
	manifests []api.ModelManifest
	stored    []string // SHA-256 of files that the mesh has of other models
	lost      int      // how often a model's files are not there any more when it is made known
	cancelled string

	submitError error
	full        string // the artifact for which there is no room on the disk
	// onJob changes the answer of Job, by the number of the call from 1.
	onJob func(n int, j *api.JobDetail) error
	calls int
	// hold keeps a following reader waiting after the last event.
	hold chan struct{}
}

var notFound = &api.Problem{Type: api.ProblemNotFound, Title: "Not Found", Status: 404, Detail: "there is no such thing in the mesh"}

func find[T any](list []T, is func(T) bool) (T, error) {
	for _, v := range list {
		if is(v) {
			return v, nil
		}
	}
	var zero T
	return zero, fmt.Errorf("GET /v1/...: %w", notFound)
}

func (f *fakeMesh) UploadDataset(_ context.Context, name string, body io.Reader, size int64) (api.Dataset, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return api.Dataset{}, err
	}
	if size >= 0 && int64(len(data)) != size {
		return api.Dataset{}, fmt.Errorf("got %d bytes, announced %d", len(data), size)
	}
	f.uploads = append(f.uploads, string(data))
	return api.Dataset{ID: "ds_00000000000000aa", Name: name, Size: int64(len(data))}, nil
}
func (f *fakeMesh) Datasets(context.Context) ([]api.Dataset, error) { return f.datasets, nil }
func (f *fakeMesh) Dataset(_ context.Context, id string) (api.Dataset, error) {
	return find(f.datasets, func(d api.Dataset) bool { return d.ID == id })
}
func (f *fakeMesh) PlanJob(_ context.Context, s api.JobSpec) (api.JobPlan, error) {
	f.planned = append(f.planned, s)
	if f.jobPlan != nil {
		return *f.jobPlan, nil
	}
	return api.JobPlan{Model: "tunemesh-mini", Stages: []api.StagePlan{{Stage: "training", MemoryBytes: 310 << 20,
		Memory:   []api.PlanPart{{Name: "activations", Bytes: 200 << 20}, {Name: "weights", Bytes: 110 << 20}},
		Settings: []api.PlanSetting{{Field: "training.batch_size", Value: "8", Reason: "batch 8 x 128 tokens: 310 MiB of 14.0 GiB"}}}}}, nil
}
func (f *fakeMesh) SubmitJob(_ context.Context, s api.JobSpec) (api.JobDetail, error) {
	f.submitted = append(f.submitted, s)
	if f.submitError != nil {
		return api.JobDetail{}, f.submitError
	}
	return api.JobDetail{Job: api.Job{JobSpec: api.JobSpec{ID: jobID}, State: api.JobPending}}, nil
}
func (f *fakeMesh) Jobs(context.Context) ([]api.Job, error) {
	var out []api.Job
	for _, j := range f.jobs {
		out = append(out, j.Job)
	}
	return out, nil
}
func (f *fakeMesh) CancelJob(_ context.Context, id, why string) (api.JobDetail, error) {
	f.cancelled = id + " " + why
	return api.JobDetail{Job: api.Job{JobSpec: api.JobSpec{ID: id}, State: api.JobCancelled}}, nil
}
func (f *fakeMesh) ResumeJob(_ context.Context, id string) (api.JobDetail, error) {
	return api.JobDetail{Job: api.Job{JobSpec: api.JobSpec{ID: id}, State: api.JobRunning}}, nil
}
func (f *fakeMesh) DeadLetters(context.Context, string) ([]api.DeadLetter, error) {
	return f.letters, nil
}
func (f *fakeMesh) Job(_ context.Context, id string) (api.JobDetail, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := find(f.jobs, func(j api.JobDetail) bool { return j.ID == id })
	f.calls++
	if err == nil && f.onJob != nil {
		err = f.onJob(f.calls, &j)
	}
	return j, err
}
func (f *fakeMesh) Events(ctx context.Context, _ string, after uint64, follow bool, fn func(api.Event) error) error {
	for _, e := range f.events {
		if e.Seq <= after {
			continue
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	if follow && f.hold != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.hold:
		}
	}
	return nil
}
func (f *fakeMesh) Artifacts(context.Context, string) ([]api.StageArtifact, error) {
	return f.artifacts, nil
}
func (f *fakeMesh) Download(_ context.Context, a api.Artifact, w io.Writer) error {
	text, ok := f.bytes[a.Name]
	if a.Name == f.full {
		return &client.CallError{What: "download " + a.Name, Err: &fs.PathError{Op: "write", Path: "/out/.part-1", Err: syscall.ENOSPC}}
	}
	if !ok {
		return fmt.Errorf("download %s: its SHA-256 is wrong", a.Name)
	}
	_, err := io.WriteString(w, text)
	return err
}
func (f *fakeMesh) Nodes(context.Context) ([]api.Node, error) { return f.nodes, nil }
func (f *fakeMesh) Node(_ context.Context, id string) (api.Node, error) {
	return find(f.nodes, func(n api.Node) bool { return n.ID == id })
}
func (f *fakeMesh) DrainNode(_ context.Context, id string, drain bool) (api.Node, error) {
	n, err := find(f.nodes, func(n api.Node) bool { return n.ID == id })
	n.Drain = drain
	return n, err
}
func (f *fakeMesh) Models(context.Context) ([]api.Model, error) { return f.models, nil }
func (f *fakeMesh) Model(_ context.Context, name string) (api.Model, error) {
	return find(f.models, func(m api.Model) bool { return m.Name == name })
}
func (f *fakeMesh) ModelFiles(ctx context.Context, name string) ([]api.Artifact, error) {
	return f.ModelObjects(ctx, "files of "+name)
}
func (f *fakeMesh) DatasetFile(_ context.Context, id string) (api.Artifact, error) {
	return api.Artifact{Name: id, Size: int64(len(f.bytes[id]))}, nil
}
func (f *fakeMesh) ModelObjects(_ context.Context, name string) ([]api.Artifact, error) {
	out, ok := f.objects[name]
	if !ok {
		return nil, notFound
	}
	return out, nil
}
func (f *fakeMesh) RequestModelUploads(_ context.Context, name string, files []api.ModelFile) ([]api.Artifact, error) {
	var out []api.Artifact
	for _, file := range files {
		if slices.Contains(f.stored, file.SHA256) {
			continue
		}
		out = append(out, api.Artifact{Name: file.Name, Size: file.Size, SHA256: file.SHA256, URL: "http://store.test/" + name + "/" + file.Name})
	}
	return out, nil
}
func (f *fakeMesh) SendModelFile(_ context.Context, _ string, _ []api.ModelFile, a api.Artifact, from io.ReaderAt, _ func(int64)) error {
	data, err := io.ReadAll(io.NewSectionReader(from, 0, 1<<20))
	if err == nil && int64(len(data)) != a.Size {
		err = fmt.Errorf("%s: got %d bytes, announced %d", a.Name, len(data), a.Size)
	}
	f.uploads = append(f.uploads, a.Name+" "+string(data))
	return err
}
func (f *fakeMesh) CreateModel(_ context.Context, name string, m api.ModelManifest) (api.Model, error) {
	f.manifests = append(f.manifests, m)
	if f.lost > 0 {
		f.lost--
		return api.Model{}, &api.Problem{Type: api.ProblemNotStored, Status: 422, Title: "upload it again"}
	}
	return api.Model{Name: name, Architecture: m.Architecture, Parameters: m.Parameters, License: m.License, SHA256: api.ModelSHA256(m.Files)}, nil
}
func (f *fakeMesh) Version(context.Context) (api.Version, error) {
	return api.Version{Version: "1.2.3", Go: "go1.26", Protocol: 1}, nil
}
func (f *fakeMesh) Ready(context.Context) error { return nil }

// chain is the default pipeline's stages with their states in order.
func chain(states ...api.StageState) []api.Stage {
	pipeline := api.DefaultPipeline().Normalize()
	var out []api.Stage
	for i, n := range pipeline.Nodes {
		s := api.Stage{StageSpec: n, After: pipeline.After(n.Name), State: api.StagePending}
		if i < len(states) {
			s.State = states[i]
		}
		switch s.State {
		case api.StageSucceeded, api.StageFailed:
			s.StartedAt, s.FinishedAt, s.Attempt, s.Node = agoP(time.Duration(200-20*i)*time.Second), agoP(time.Duration(188-20*i)*time.Second), 1, "n-5f0c2b9a7e31"
		case api.StageRunning:
			s.StartedAt, s.Attempt, s.Node = agoP(72*time.Second), 1, "n-5f0c2b9a7e31"
		}
		out = append(out, s)
	}
	return out
}

// demoMesh holds one of everything, with long names where a user chose them.
func demoMesh() *fakeMesh {
	evaluation := `{"evaluation":{"task":"classification","test_samples":180,"improved":true,
	 "base":{"accuracy":0.12,"macro_f1":0.051,"loss":3.214,"perplexity":24.88,"per_class":[1]},
	 "tuned":{"accuracy":0.913,"macro_f1":0.9,"loss":0.412,"perplexity":1.51},
	 "comparisons":[{"metric":"accuracy","samples":180,"base":0.12,"tuned":0.913,"difference":0.793,"difference_ci95":[0.728,0.85],"significant":true},
	  {"metric":"macro_f1","samples":180,"base":0.051,"tuned":0.9,"difference":0.849,"difference_ci95":[0.78,0.903],"significant":true},
	  {"metric":"loss","samples":180,"base":3.214,"tuned":0.412,"difference":-2.802,"difference_ci95":[-3.01,-2.59],"significant":true,"lower_is_better":true}],
	 "answers":[{"input":"My invoice shows the wrong amount\nand nobody answers the phone since Monday, please help me, it is the third time that this happens and I am about to cancel the whole contract.","target":"billing","base":"shipping","tuned":"billing"},{"input":"Wo ist mein Paket? 📦","target":"shipping","base":"","tuned":"returns"}]}}`
	done := api.JobDetail{Job: api.Job{JobSpec: api.JobSpec{ID: jobID, Name: "support tickets", Dataset: "ds_3f2a9c41d07b8e65", Config: json.RawMessage(`{"training":{"rank":16}}`)}, State: api.JobSucceeded, Model: "tunemesh-mini", CreatedBy: "anna", CreatedAt: ago(4 * time.Minute), StartedAt: agoP(200 * time.Second), FinishedAt: agoP(88 * time.Second)}, Stages: chain(api.StageSucceeded, api.StageSucceeded, api.StageSucceeded, api.StageSucceeded, api.StageSucceeded, api.StageSucceeded)}
	done.Stages[2].Output = json.RawMessage(`{"preprocessing":{"rows":1240,"train":900,"validation":60,"test":180,"dropped":{"missing":40,"duplicate":60},"redacted":{"email":12}}}`)
	done.Stages[3].Metrics = map[string]float64{"train_loss": 0.41234, "tokens_per_second": 5120.3}
	done.Stages[3].Checkpoints = []api.Checkpoint{{Name: "epoch_1"}, {Name: "epoch_2"}}
	done.Stages[4].Output = json.RawMessage(evaluation)
	running := api.JobDetail{Job: api.Job{JobSpec: api.JobSpec{ID: "01JDCK9999999999999999RUN0", Name: "a job with a name that is much longer than anybody would want to read in a table of a hundred columns", Dataset: "ds_3f2a9c41d07b8e65"}, State: api.JobRunning, Model: "tunemesh-mini", CreatedBy: "anna", CreatedAt: ago(2 * time.Minute), StartedAt: agoP(100 * time.Second)}, Stages: chain(api.StageSucceeded, api.StageSucceeded, api.StageReady)}
	running.Stages[2].WaitReason = "no node has a GPU with 8 GiB free; nearest: n-5f0c2b9a7e31 (ws-anna), which has no GPU at all and only 2 of the 4 cores that are asked for"
	failed := api.JobDetail{Job: api.Job{JobSpec: api.JobSpec{ID: "01JDCK8888888888888888FA10", Dataset: "ds_3f2a9c41d07b8e65"}, State: api.JobFailed, Reason: "stage validation is a dead letter", CreatedAt: ago(26 * time.Hour), StartedAt: agoP(26 * time.Hour), FinishedAt: agoP(25 * time.Hour)}, Stages: chain(api.StageSucceeded, api.StageFailed)}
	failed.Stages[1].Tries = 1
	failed.Stages[1].Error = &api.StageError{Class: "bad_input", Code: "RAGGED_ROW", Message: "row has 3 fields, the header has 5", File: "tickets.csv", Row: 811, Column: "queue", Hint: "quote fields that hold commas or line breaks"}
	failedStage := failed.Stages[1]
	return &fakeMesh{
		jobs:     []api.JobDetail{running, done, failed},
		datasets: []api.Dataset{{ID: "ds_3f2a9c41d07b8e65", Name: "support-tickets-of-the-whole-year-2026-exported-by-the-help-desk-in-november-final-2.csv", Format: "csv", Size: 4_212_345, SHA256: strings.Repeat("3f2a9c41d07b8e65", 4), Key: "raw/ds_3f2a9c41d07b8e65.csv", CreatedBy: "anna", CreatedAt: ago(3 * time.Hour)}},
		nodes: []api.Node{
			{ID: "n-5f0c2b9a7e31", Name: "ws-anna", Status: api.NodeAlive, LastSeen: agoP(2 * time.Second), JoinedAt: ago(50 * time.Hour), Running: 1, Version: "0.1.0", Protocol: 1, Labels: map[string]string{"rack": "a", "owner": "anna"}, Capability: api.Capability{OS: "linux", Arch: "amd64", Hostname: "ws-anna.example.org", CPU: api.CPU{Model: "AMD EPYC 9R14", Cores: 2, Features: []string{"avx2", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "avx512bf16", "fma3", "f16c", "sse4.2"}}, MemoryBytes: 24 << 30, DiskBytes: 100 << 30, Engines: []api.Engine{{Name: "native", Available: true, Devices: []string{"cpu"}, Version: "0.1.0"}, {Name: "peft", Reason: "python3 is not installed"}}, Launchers: []string{"local"}}},
			{ID: "n-aaaaaaaaaaaa", Name: "gpu-box", Status: api.NodeDisconnected, LastSeen: agoP(3 * time.Minute), Drain: true, JoinedAt: ago(time.Hour), Capability: api.Capability{OS: "linux", Arch: "amd64", CPU: api.CPU{Cores: 64}, MemoryBytes: 512 << 30, GPUs: []api.GPU{{Index: 0, Kind: "cuda", Name: "NVIDIA H100 80GB HBM3", MemoryBytes: 80 << 30, MemoryFreeBytes: 78 << 30, Driver: "550.54", ComputeCapability: "9.0"}, {Index: 1, Kind: "cuda", Name: "NVIDIA H100 80GB HBM3", MemoryBytes: 80 << 30}}, Engines: []api.Engine{{Name: "native", Available: true}, {Name: "peft", Available: true}}}},
		},
		models:    []api.Model{{Name: "tunemesh-mini", Architecture: "LlamaForCausalLM", Parameters: 3_412_000, License: "Apache-2.0", SHA256: strings.Repeat("ab", 32), CreatedAt: ago(72 * time.Hour), Files: []api.Artifact{{Name: "model.safetensors", Bucket: "models", Key: "base/tunemesh-mini/model.safetensors", Size: 6_824_000}, {Name: "config.json", Bucket: "models", Key: "base/tunemesh-mini/config.json", Size: 712}}}},
		artifacts: []api.StageArtifact{art("training", "adapter/adapter_config.json", "models", 612), art("training", "adapter/adapter_model.safetensors", "models", 120_000), art("evaluation", "metrics.json", "artifacts", 4100), art("export", "model-f16.gguf", "models", 6_900_000)},
		letters:   []api.DeadLetter{{JobID: failed.ID, Stage: "validation", Fence: 41, Tries: 1, NodeID: "n-5f0c2b9a7e31", Error: *failedStage.Error, At: ago(25 * time.Hour), Events: []api.Event{{Seq: 8, Timestamp: ago(25 * time.Hour), Level: api.LevelInfo, Stage: "validation", Message: "reads tickets.csv"}, {Seq: 9, Timestamp: ago(25 * time.Hour), Level: api.LevelError, Stage: "validation", ErrorCode: "RAGGED_ROW", Message: "row has 3 fields, the header has 5"}}}},
		events:    demoEvents(),
		bytes:     map[string]string{"metrics.json": `{"accuracy":0.913}`, "adapter/adapter_config.json": "{}", "adapter/adapter_model.safetensors": "weights"},
	}
}

func art(stage, name, bucket string, size int64) api.StageArtifact {
	return api.StageArtifact{Stage: stage, Artifact: api.Artifact{Name: name, Bucket: bucket, Key: "jobs/" + jobID + "/41/" + name, Size: size, SHA256: strings.Repeat("cd", 32)}}
}

// demoEvents is a short job's stream.
func demoEvents() []api.Event {
	at := ago(200 * time.Second)
	var out []api.Event
	add := func(after time.Duration, e api.Event) {
		at = at.Add(after)
		e.Seq, e.Timestamp, e.RunID = uint64(len(out)+1), at, jobID
		out = append(out, e)
	}
	add(0, api.Event{Level: api.LevelState, From: "pending", To: "running"})
	add(time.Second, api.Event{Level: api.LevelState, Stage: "training", Attempt: 1, Node: "n-5f0c2b9a7e31", From: "ready", To: "running", Message: "stage training is placed on n-5f0c2b9a7e31 (attempt 1)"})
	add(time.Second, api.Event{Level: api.LevelInfo, Stage: "training", Attempt: 1, Message: "rank 8 on 7 kinds of layers"})
	for i := int64(1); i <= 12; i++ {
		add(time.Second, api.Event{Level: api.LevelMetric, Stage: "training", Attempt: 1, Step: p(i * 10), Loss: p(3 / float64(i)), SamplesPerSec: p(311.4), Progress: &api.Progress{Done: i * 10, Total: 120, Unit: "steps", ETASeconds: float64(12 - i)}})
	}
	add(time.Second, api.Event{Level: api.LevelWarn, Stage: "training", Attempt: 1, ErrorCode: "SLOW_DISK", Message: "a checkpoint took 4 s", Fields: json.RawMessage(`{"seconds":4}`)})
	add(time.Second, api.Event{Level: api.LevelState, Stage: "training", Attempt: 1, From: "running", To: "succeeded"})
	add(time.Second, api.Event{Level: api.LevelState, From: "running", To: "succeeded", Message: "job has succeeded"})
	return out
}

// result is what a command line did.
type result struct {
	out, err string
	code     int
}

// cmdline runs command lines against a mesh.
type cmdline struct {
	t      *testing.T
	mesh   cli.Mesh // nil: the real client
	env    map[string]string
	screen cli.Screen
	stdin  io.Reader
	ctx    context.Context
}

func (l cmdline) root(out, errOut io.Writer) *cobra.Command {
	o := cli.Options{
		Version: api.Version{Version: "0.1.0", Commit: "abc1234", Go: "go1.26.0", Protocol: 1},
		Now:     func() time.Time { return noon },
		Getenv:  func(k string) string { return l.env[k] },
		Screen: func(io.Writer) cli.Screen {
			if l.screen.Width == 0 {
				return cli.Screen{Width: 100, Height: 40}
			}
			return l.screen
		},
		Import: fakeImport, Preview: fakePreview,
	}
	if l.mesh != nil {
		o.Connect = func(cli.Context) (cli.Mesh, error) { return l.mesh, nil }
		if l.env == nil {
			l.env = map[string]string{"TUNEMESH_SERVER": "http://mesh.test"}
		}
	}
	root := &cobra.Command{Use: "tunemesh", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(cli.Commands(o)...)
	root.SetOut(out)
	root.SetErr(errOut)
	if l.stdin == nil {
		l.stdin = strings.NewReader("")
	}
	root.SetIn(l.stdin)
	return root
}

func (l cmdline) run(args ...string) result {
	l.t.Helper()
	var out, errOut bytes.Buffer
	if l.env == nil && l.mesh == nil {
		l.env = map[string]string{}
	}
	if l.env != nil && l.env["XDG_CONFIG_HOME"] == "" {
		l.env["XDG_CONFIG_HOME"] = l.t.TempDir()
	}
	root := l.root(&out, &errOut)
	ctx := l.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	code := cli.Run(ctx, root, args, &errOut)
	return result{out.String(), errOut.String(), code}
}

// golden compares with testdata/name, or writes it with UPDATE_GOLDEN=1.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", path, got, want)
	}
}

// narrow fails where a line is wider than width cells.
func narrow(t *testing.T, what, text string, width int) {
	t.Helper()
	for line := range strings.Lines(text) {
		if w := format.Width(strings.TrimRight(line, "\n")); w > width {
			t.Errorf("%s: a line is %d cells wide, at most %d are allowed:\n%s", what, w, width, line)
		}
	}
}
