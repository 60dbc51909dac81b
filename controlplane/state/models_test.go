package state_test

import (
	"slices"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// mini is a base model named mini of one file, which has that hash.
func mini(sum string) api.Model {
	return api.Model{Name: "mini", SHA256: sum, Architecture: "LlamaForCausalLM", Files: []api.Artifact{{Name: "model.safetensors", Bucket: api.BucketModels, Key: "blobs/" + sum, Size: 2, SHA256: sum}}}
}

// base is the hash of the one file that a job's stages begin with.
func base(t *testing.T, v state.View, job string) string {
	t.Helper()
	files, err := v.Base(job)
	if err != nil || len(files) != 1 {
		t.Fatalf("job %s begins with %+v, %v", job, files, err)
	}
	return files[0].SHA256
}

func needed(v state.View) []string {
	var out []string
	for _, f := range v.BaseFiles() {
		out = append(out, f.SHA256)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestAJobStaysWithTheModelThatItBeganWith(t *testing.T) {
	m := newMesh(t)
	m.must(state.UpsertNode{At: m.now, Node: api.Node{ID: "n1", Capability: api.Capability{CPU: api.CPU{Cores: 3}}}})
	m.must(state.CreateModel{Model: mini("aa")})
	submit := func(id string) {
		m.must(state.CreateJob{Spec: api.JobSpec{ID: id}, Pipeline: chain("a"), Model: "mini", At: m.now})
	}
	submit("done")
	fence := m.must(state.PlaceAttempt{JobID: "done", Stage: "a", NodeID: "n1", Devices: api.Devices{CPUCores: 1}, At: m.now}).Fence
	m.must(state.ReportAttempts{Reports: []state.Report{{Fence: fence, Report: succeeded(`{}`), At: m.now}}})
	submit("waits")
	submit("cancelled")
	m.must(state.CancelJob{JobID: "cancelled", At: m.now})
	m.must(state.CreateModel{Model: mini("bb"), Replace: true, Keep: true})
	submit("later")
	m.must(state.CreateModel{Model: mini("cc"), Replace: true, Keep: true})
	for job, want := range map[string]string{"done": "cc", "waits": "aa", "cancelled": "aa", "later": "bb"} {
		if got := base(t, m.store.View, job); got != want {
			t.Errorf("job %s begins with %s, want %s", job, got, want)
		}
	}
	if got := needed(m.store.View); !slices.Equal(got, []string{"aa", "bb", "cc"}) {
		t.Errorf("needed are %v", got)
	}
	for _, id := range []string{"waits", "later"} {
		fence := m.must(state.PlaceAttempt{JobID: id, Stage: "a", NodeID: "n1", Devices: api.Devices{CPUCores: 1}, At: m.now}).Fence
		m.must(state.ReportAttempts{Reports: []state.Report{{Fence: fence, Report: succeeded(`{}`), At: m.now}}})
	}
	// A cancelled job may be resumed; what only done ones had is needed no more.
	if got := needed(m.store.View); !slices.Equal(got, []string{"aa", "cc"}) {
		t.Errorf("needed after the jobs are done: %v", got)
	}
}

func TestWhatIsSaidOfAModelIsAmended(t *testing.T) {
	m := newMesh(t)
	m.must(state.CreateModel{Model: mini("aa")})
	said := mini("aa")
	said.Parameters, said.License, said.Bundled = 7, "mit", true
	said.Files[0].Key = "elsewhere"
	m.must(state.CreateModel{Model: said, Replace: true})
	if got, _ := m.store.Model("mini"); got.Parameters != 0 {
		t.Errorf("changed without a word: %+v", got)
	}
	m.must(state.CreateModel{Model: said, Amend: true})
	got, err := m.store.Model("mini")
	if err != nil || got.Parameters != 7 || got.License != "mit" || !got.Bundled || got.Files[0].Key != "blobs/aa" || got.Index != m.index {
		t.Errorf("amended: %+v, %v", got, err)
	}
	m.must(state.CreateModel{Model: said, Amend: true})
	if again, _ := m.store.Model("mini"); again.Index != got.Index {
		t.Error("the same words are a change")
	}
}

func TestGoldenLogAndSnapshotOfKeptModels(t *testing.T) {
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	job := func(id, model string) state.Command {
		return state.CreateJob{Spec: api.JobSpec{ID: id}, Pipeline: chain("a"), Model: model, CreatedBy: "anna", At: at}
	}
	said := mini("aa")
	said.Parameters, said.Bundled = 7, true
	_, restored := golden(t, "v5-kept-models", []state.Command{
		state.SetMinVersion{Version: state.SinceKeptModels},
		state.CreateModel{Model: mini("aa")}, state.CreateModel{Model: said, Amend: true},
		job("01JD0000000000000000000001", "mini"), job("01JD0000000000000000000002", ""), job("01JD0000000000000000000003", "mini"),
		state.CancelJob{JobID: "01JD0000000000000000000003", At: at},
		state.CreateModel{Model: mini("bb"), Replace: true, Keep: true},
		job("01JD0000000000000000000004", "mini"),
	})
	for job, want := range map[string]string{"01JD0000000000000000000001": "aa", "01JD0000000000000000000003": "aa", "01JD0000000000000000000004": "bb"} {
		if got := base(t, restored.View, job); got != want {
			t.Errorf("job %s begins with %s, want %s", job, got, want)
		}
	}
}
