package rest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

const nodeName = "n-test"

func capability() api.Capability {
	return api.Capability{OS: "linux", Arch: "amd64", CPU: api.CPU{Model: "x", Cores: 4}, MemoryBytes: 8 << 30, DiskBytes: 100 << 30,
		Engines: []api.Engine{{Name: "native", Available: true, Devices: []string{"cpu"}}}, Launchers: []string{"local"}}
}

// join registers a node and sends its first heartbeat.
func join(t *testing.T, agent *client.Client) {
	t.Helper()
	reply, err := agent.Register(t.Context(), nodeName, api.Registration{Name: "test", PublicKey: []byte("key"), Capability: capability(), Digest: "d1", Version: "test", Protocol: api.ProtocolVersion})
	if err != nil {
		t.Fatal(err)
	}
	if reply.Node.ID != nodeName || reply.HeartbeatInterval <= 0 || reply.LeaseTTL <= reply.HeartbeatInterval || reply.Protocol != api.ProtocolVersion {
		t.Errorf("registration answers %+v", reply)
	}
	beat(t, agent)
}

func beat(t *testing.T, agent *client.Client, fences ...uint64) api.HeartbeatReply {
	t.Helper()
	reply, err := agent.Heartbeat(t.Context(), nodeName, api.Heartbeat{SentAt: time.Now(), Fences: fences, Digest: "d1"})
	if err != nil {
		t.Fatal(err)
	}
	if !reply.Registered {
		t.Errorf("heartbeat answers %+v", reply)
	}
	return reply
}

// wantWork polls until the desired set has n attempts.
func wantWork(t *testing.T, agent *client.Client, index uint64, n int) api.Assignments {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		a, err := agent.Assignments(t.Context(), nodeName, index, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Attempts) == n && a.Index != index {
			return a
		}
		if time.Now().After(deadline) {
			t.Fatalf("the set has %d attempts, want %d", len(a.Attempts), n)
		}
		index = a.Index
	}
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// put uploads files of an attempt and returns what to report.
func put(t *testing.T, agent *client.Client, fence uint64, checkpoint string, files map[string]string) []api.Artifact {
	t.Helper()
	req := api.UploadRequest{Checkpoint: checkpoint}
	for name, content := range files {
		req.Files = append(req.Files, api.UploadFile{Name: name, Size: int64(len(content)), SHA256: sum([]byte(content))})
	}
	slices.SortFunc(req.Files, func(a, b api.UploadFile) int { return strings.Compare(a.Name, b.Name) })
	reply, err := agent.RequestUploads(t.Context(), fence, req)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range reply.Files {
		if err := agent.Put(t.Context(), a, strings.NewReader(files[a.Name])); err != nil {
			t.Fatal(err)
		}
	}
	return reply.Files
}

// twoStages is a pipeline of two custom stages.
func twoStages() *api.Pipeline {
	return &api.Pipeline{
		Nodes: []api.StageSpec{
			{Name: "first", Command: []string{"true"}, Config: json.RawMessage(`{"mine":{"deep":2}}`)},
			{Name: "second", Command: []string{"true"}},
		},
		Edges: []api.Edge{{From: "first", To: "second"}},
	}
}

func TestAnAgentRunsAJob(t *testing.T) {
	m := newMesh(t)
	user, agent := m.client(api.RoleUser), m.client(api.RoleNode)
	d := upload(t, user, "t.csv", "text,label\na,b\n")
	join(t, agent)
	job, err := user.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Config: json.RawMessage(`{"mine":1,"other":true}`), Pipeline: twoStages()})
	if err != nil {
		t.Fatal(err)
	}

	set := wantWork(t, agent, 0, 1)
	a := set.Attempts[0]
	if a.JobID != job.ID || a.Stage.Name != "first" || a.Attempt != 1 || a.Fence == 0 || len(a.PreviousOutput) != 0 {
		t.Errorf("assignment %+v", a)
	}
	var config map[string]any
	if err := json.Unmarshal(a.Config, &config); err != nil || fmt.Sprint(config) != "map[mine:map[deep:2] model:tiny other:true]" {
		t.Errorf("config %v, %v", config, err)
	}
	var inputs []string
	for _, in := range a.Inputs {
		var got bytes.Buffer
		if err := agent.Download(t.Context(), in.Artifact, &got); err != nil {
			t.Error(err)
		}
		inputs = append(inputs, in.Stage+"/"+in.Name+" "+in.OriginalName)
	}
	if want := []string{"source/" + d.ID + ".csv t.csv", "model/config.json "}; !slices.Equal(inputs, want) {
		t.Errorf("inputs %v, want %v", inputs, want)
	}

	if err := agent.ReportAttempt(t.Context(), a.Fence, api.AttemptReport{State: api.AttemptRunning}); err != nil {
		t.Fatal(err)
	}
	beat(t, agent, a.Fence)
	loss, epoch := 1.5, 0.5
	lines := []api.Event{{Level: api.LevelInfo, Message: "hello", Stage: "forged", RunID: "forged"}, {Level: api.LevelMetric, Loss: &loss, Epoch: &epoch, SamplesPerSec: &loss}, {Level: api.LevelState, To: "succeeded"}}
	for range 2 {
		ack, err := agent.AppendEvents(t.Context(), a.Fence, api.EventBatch{FirstSeq: 1, Events: lines})
		if err != nil || ack.NextSeq != 4 {
			t.Errorf("ack %+v, %v", ack, err)
		}
	}
	if ack, err := agent.AppendEvents(t.Context(), a.Fence, api.EventBatch{FirstSeq: 9, Events: lines}); err != nil || ack.NextSeq != 4 {
		t.Errorf("a hole: ack %+v, %v", ack, err)
	}

	saved := put(t, agent, a.Fence, "step_5", map[string]string{"state.bin": "12345"})
	if saved[0].Bucket != api.BucketCheckpoints || saved[0].Key != fmt.Sprintf("%s/step_5/%d/state.bin", job.ID, a.Fence) {
		t.Errorf("checkpoint goes to %s/%s", saved[0].Bucket, saved[0].Key)
	}
	if err := agent.ReportCheckpoint(t.Context(), a.Fence, api.CheckpointReport{Name: "step_5", Files: saved}); err != nil {
		t.Error(err)
	}

	made := put(t, agent, a.Fence, "", map[string]string{"metrics.json": `{"accuracy":1}`, "folder/x.bin": "x"})
	report := api.AttemptReport{State: api.AttemptSucceeded, Output: json.RawMessage(`{"rows":1}`), Metrics: map[string]float64{"rows": 1}, Artifacts: made}
	wrong := report
	wrong.Artifacts = slices.Clone(made)
	wrong.Artifacts[1].Size++
	if got := faults(t, agent.ReportAttempt(t.Context(), a.Fence, wrong)); !slices.Equal(got, []string{"artifacts[1]"}) {
		t.Errorf("an artifact of another size: names %v", got)
	}
	wrong.Artifacts[1] = api.Artifact{Name: "x", Bucket: d.Key, Key: d.Key}
	if got := faults(t, agent.ReportAttempt(t.Context(), a.Fence, wrong)); !slices.Equal(got, []string{"artifacts[1].key"}) {
		t.Errorf("somebody else's artifact: names %v", got)
	}
	for range 2 { // the repeat is harmless
		if err := agent.ReportAttempt(t.Context(), a.Fence, report); err != nil {
			t.Fatal(err)
		}
	}
	report.Output = json.RawMessage(`{"rows":2}`)
	if err := agent.ReportAttempt(t.Context(), a.Fence, report); !client.IsStale(err) {
		t.Errorf("another report after the end: %v", err)
	}
	if _, err := agent.RequestUploads(t.Context(), a.Fence, api.UploadRequest{}); !client.IsStale(err) {
		t.Errorf("uploads after the end: %v", err)
	}

	set = wantWork(t, agent, set.Index, 1)
	b := set.Attempts[0]
	if b.Stage.Name != "second" || string(b.PreviousOutput["first"]) != `{"rows":1}` || b.Fence <= a.Fence {
		t.Errorf("assignment %+v", b)
	}
	inputs = nil
	for _, in := range b.Inputs {
		inputs = append(inputs, in.Stage+"/"+in.Name)
	}
	if want := []string{"first/folder/x.bin", "first/metrics.json", "source/" + d.ID + ".csv", "model/config.json"}; !slices.Equal(inputs, want) {
		t.Errorf("inputs %v, want %v", inputs, want)
	}
	if err := agent.ReportAttempt(t.Context(), b.Fence, api.AttemptReport{State: api.AttemptSucceeded}); err != nil {
		t.Fatal(err)
	}
	wantWork(t, agent, set.Index, 0)

	var seen []string
	if err := user.Events(t.Context(), job.ID, 0, true, func(e api.Event) error {
		if e.Level != api.LevelState {
			seen = append(seen, fmt.Sprintf("%s/%s/%d/%s", e.Stage, e.Level, e.SourceSeq, e.Message))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"first/INFO/1/hello", "first/METRIC/2/", "first/INFO/3/"}; !slices.Equal(seen, want) {
		t.Errorf("events %v, want %v", seen, want)
	}
	done, err := user.Job(t.Context(), job.ID)
	if err != nil || done.State != api.JobSucceeded {
		t.Errorf("job %+v, %v", done.Job, err)
	}
	listed, err := user.Artifacts(t.Context(), job.ID)
	if err != nil || len(listed) != 2 || listed[0].URL == "" {
		t.Errorf("artifacts %+v, %v", listed, err)
	}
	attempts, err := user.Attempts(t.Context(), job.ID)
	if err != nil || len(attempts) != 2 {
		t.Errorf("attempts %+v, %v", attempts, err)
	}
	m.wantPublished(t, job.ID+"/metrics.json", `{"accuracy":1}`)
	m.wantMetrics(t, fmt.Sprintf(`training_loss{epoch="1",job_id="%s"} 1.5`, job.ID), fmt.Sprintf(`training_throughput_samples_per_sec{job_id="%s"} 1.5`, job.ID), `api_latency_seconds{endpoint="/v1/jobs",quantile="0.95"} `, `events_received_total{level="METRIC"} `, `api_requests_total{endpoint="/v1/jobs",method="POST",status="201"} 1`, "tunemesh_build_info{", "go_goroutines ")
}

func (m *mesh) wantPublished(t *testing.T, key, want string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		r, err := m.store.Get(t.Context(), api.BucketArtifacts, key)
		if err == nil {
			got, _ := io.ReadAll(r)
			r.Close()
			if string(got) == want {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not published: %v", key, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (m *mesh) wantMetrics(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !m.hasMetric(t, line) {
			t.Errorf("/metrics has no %s", line)
		}
	}
}

// hasMetric says whether /metrics has a line that begins so.
func (m *mesh) hasMetric(t *testing.T, line string) bool {
	t.Helper()
	resp := m.send(t, "GET", "/metrics", m.tokens[api.RoleMetrics], "")
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(body), "\n"+line)
}

func TestAFailedAttemptIsTriedAgainFromItsCheckpoint(t *testing.T) {
	m := newMesh(t)
	user, agent := m.client(api.RoleUser), m.client(api.RoleNode)
	d := upload(t, user, "t.csv", "text,label\na,b\n")
	join(t, agent)
	job, err := user.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Pipeline: &api.Pipeline{Nodes: []api.StageSpec{{Name: "only", Command: []string{"x"}, MaxAttempts: 2}}}})
	if err != nil {
		t.Fatal(err)
	}
	set := wantWork(t, agent, 0, 1)
	a := set.Attempts[0]
	saved := put(t, agent, a.Fence, "epoch_1", map[string]string{"state.bin": "12345"})
	if err := agent.ReportCheckpoint(t.Context(), a.Fence, api.CheckpointReport{Name: "epoch_1", Files: saved}); err != nil {
		t.Fatal(err)
	}
	failure := &api.StageError{Class: "transient", Code: "FLAKY", Message: "again"}
	if err := agent.ReportAttempt(t.Context(), a.Fence, api.AttemptReport{State: api.AttemptFailed, Error: failure}); err != nil {
		t.Fatal(err)
	}
	for {
		set = wantWork(t, agent, set.Index, 1)
		if set.Attempts[0].Fence != a.Fence {
			break
		}
	}
	b := set.Attempts[0]
	if b.Attempt != 2 || b.Checkpoint == nil || b.Checkpoint.Name != "epoch_1" {
		t.Fatalf("the second attempt is %+v", b)
	}
	var got bytes.Buffer
	if err := agent.Download(t.Context(), b.Checkpoint.Files[0], &got); err != nil || got.String() != "12345" {
		t.Errorf("checkpoint %q, %v", got.String(), err)
	}
	if _, err := agent.AppendEvents(t.Context(), b.Fence, api.EventBatch{FirstSeq: 1, Events: []api.Event{{Level: api.LevelError, Message: "last words"}}}); err != nil {
		t.Fatal(err)
	}
	left := put(t, agent, b.Fence, "", map[string]string{"report.json": `{"rows":1}`})
	wrong := slices.Clone(left)
	wrong[0].Size++
	if got := faults(t, agent.ReportAttempt(t.Context(), b.Fence, api.AttemptReport{State: api.AttemptFailed, Error: failure, Artifacts: wrong})); !slices.Equal(got, []string{"artifacts[0]"}) {
		t.Errorf("a failure with an artifact of another size: names %v", got)
	}
	if err := agent.ReportAttempt(t.Context(), b.Fence, api.AttemptReport{State: api.AttemptFailed, Error: failure, Artifacts: left}); err != nil {
		t.Fatal(err)
	}
	listed, err := user.Artifacts(t.Context(), job.ID)
	if err != nil || len(listed) != 1 || listed[0].Stage != "only" || listed[0].Name != "report.json" {
		t.Fatalf("what the failed stage left: %+v, %v", listed, err)
	}
	got.Reset()
	if err := user.Download(t.Context(), listed[0].Artifact, &got); err != nil || got.String() != `{"rows":1}` {
		t.Errorf("the report is %q, %v", got.String(), err)
	}
	letters, err := user.DeadLetters(t.Context(), job.ID)
	if err != nil || len(letters) != 1 || letters[0].Error.Code != "FLAKY" || !letters[0].Error.Retryable || len(letters[0].Artifacts) != 1 || len(letters[0].Events) != 1 || letters[0].Events[0].Message != "last words" {
		t.Errorf("dead letters %+v, %v", letters, err)
	}
	all, err := user.DeadLetters(t.Context(), "")
	if err != nil || len(all) != 1 {
		t.Errorf("all dead letters %+v, %v", all, err)
	}
}

func TestAFenceThatNobodyKnowsIsStale(t *testing.T) {
	m := newMesh(t)
	agent := m.client(api.RoleNode)
	for name, err := range map[string]error{
		"report": agent.ReportAttempt(t.Context(), 999_999, api.AttemptReport{State: api.AttemptRunning}),
		"events": func() error {
			_, err := agent.AppendEvents(t.Context(), 999_999, api.EventBatch{FirstSeq: 1})
			return err
		}(),
	} {
		var p *api.Problem
		if !client.IsStale(err) || !errors.As(err, &p) || p.Status != http.StatusGone {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := agent.Assignments(t.Context(), nodeName, 0, 0); !client.IsNotFound(err) {
		t.Errorf("assignments of a node that did not register: %v", err)
	}
	if reply, err := agent.Heartbeat(t.Context(), nodeName, api.Heartbeat{}); err != nil || reply.Registered {
		t.Errorf("heartbeat of a node that did not register: %+v, %v", reply, err)
	}
}

func TestUploadsThatCannotBeAreRefused(t *testing.T) {
	m := newMesh(t)
	user, agent := m.client(api.RoleUser), m.client(api.RoleNode)
	d := upload(t, user, "t.csv", "text,label\na,b\n")
	join(t, agent)
	if _, err := user.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Pipeline: twoStages()}); err != nil {
		t.Fatal(err)
	}
	fence := wantWork(t, agent, 0, 1).Attempts[0].Fence
	good := api.UploadFile{Name: "a", Size: 1, SHA256: sum([]byte("a"))}
	with := func(change func(*api.UploadFile)) api.UploadRequest {
		f := good
		change(&f)
		return api.UploadRequest{Files: []api.UploadFile{good, f}}
	}
	for want, req := range map[string]api.UploadRequest{
		"files[1].name":   with(func(f *api.UploadFile) { f.Name = "../x" }),
		"files[1].size":   with(func(f *api.UploadFile) { f.Size = -1 }),
		"files[1].sha256": with(func(f *api.UploadFile) { f.SHA256 = "x" }),
		"files[1].place":  with(func(f *api.UploadFile) { f.Place = "raw" }),
		"files":           with(func(f *api.UploadFile) { f.Name = "a/b" }),
		"checkpoint":      {Checkpoint: "a/b"},
	} {
		_, err := agent.RequestUploads(t.Context(), fence, req)
		if got := faults(t, err); !slices.Equal(got, []string{want}) {
			t.Errorf("names %v, want %s", got, want)
		}
	}
}
