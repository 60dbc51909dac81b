package rest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

// weights makes a base model's files, whose contents depend on seed.
func weights(seed string) map[string]string {
	return map[string]string{
		"config.json": `{"architectures":["LlamaForCausalLM"]}`, "tokenizer.json": "{}", "README.md": "",
		"model.safetensors": strings.Repeat(seed, 100_000/len(seed)),
	}
}

func list(files map[string]string) []api.ModelFile {
	var out []api.ModelFile
	for name, data := range files {
		sum := sha256.Sum256([]byte(data))
		out = append(out, api.ModelFile{Name: name, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
	}
	return out
}

// send uploads those of the announced files that the mesh lacks.
func send(t *testing.T, c *client.Client, name string, announced []api.ModelFile, files map[string]string) {
	t.Helper()
	places, err := c.RequestModelUploads(t.Context(), name, announced)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range places {
		if p.Bucket != api.BucketModels || p.Key != "blobs/"+p.SHA256 {
			t.Errorf("place %+v", p)
		}
		data, ok := files[p.Name]
		if !ok {
			continue
		}
		if err := c.Put(t.Context(), p, strings.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
}

// sendUnsealed uploads other bytes than were announced, which only the links of
// older clients allow.
func (m *mesh) sendUnsealed(t *testing.T, name string, announced []api.ModelFile, which int, data string) {
	t.Helper()
	body, err := json.Marshal(api.ModelUploads{Files: announced})
	if err != nil {
		t.Fatal(err)
	}
	var reply api.UploadReply
	m.do(t, http.MethodPost, "/v1/models/"+name+"/uploads", body, &reply)
	to := reply.Files[which]
	to.Size, to.SHA256 = int64(len(data)), sum([]byte(data))
	if err := m.client(api.RoleUser).Put(t.Context(), to, strings.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

func refusal(t *testing.T, err error) *api.Problem {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) {
		t.Fatalf("%v is no problem document", err)
	}
	return p
}

// fromHub is where a model came from.
const fromHub = "hf:org/tiny@0a1b2c3d"

func TestAModelIsUploadedAndUsed(t *testing.T) {
	m := newMesh(t)
	user := m.client(api.RoleUser)
	files := weights("a")
	announced := list(files)
	send(t, user, "mine", announced, files)
	if _, err := user.Model(t.Context(), "mine"); refusal(t, err).Status != http.StatusNotFound {
		t.Errorf("before it is made known: %v", err)
	}
	made, err := user.CreateModel(t.Context(), "mine", api.ModelManifest{Architecture: "LlamaForCausalLM", Parameters: 7, License: "mit", Source: fromHub, Files: announced})
	if err != nil {
		t.Fatal(err)
	}
	if made.Name != "mine" || made.Architecture != "LlamaForCausalLM" || made.Parameters != 7 || made.License != "mit" || made.Source != fromHub || made.CreatedAt.IsZero() || made.Index == 0 ||
		made.SHA256 != api.ModelSHA256(announced) || len(made.Files) != len(files) {
		t.Errorf("%+v", made)
	}
	for _, f := range made.Files {
		if f.URL != "" {
			t.Errorf("file %+v", f)
		}
		r, err := m.store.Get(t.Context(), f.Bucket, f.Key)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if r.Close(); err != nil || string(data) != files[f.Name] {
			t.Errorf("%s holds %d bytes, %v", f.Name, len(data), err)
		}
	}
	manifest, err := m.store.Get(t.Context(), api.BucketModels, "base/mine/"+made.SHA256[:12]+"/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	defer manifest.Close()
	var written api.Model
	if err := json.NewDecoder(manifest).Decode(&written); err != nil || written.Name != "mine" || !slices.Equal(written.Files, made.Files) {
		t.Errorf("the manifest says %+v, %v", written, err)
	}
	// The order of the files does not matter, and a repeat changes nothing.
	slices.Reverse(announced)
	again, err := user.CreateModel(t.Context(), "mine", api.ModelManifest{Architecture: "LlamaForCausalLM", Files: announced})
	if err != nil || again.Index != made.Index || again.License != "mit" {
		t.Errorf("repeated: %+v, %v", again, err)
	}
	// A job may name it now.
	d := upload(t, user, "rows.csv", "text,label\na,b\n")
	job, err := user.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Config: []byte(`{"model":"mine"}`)})
	if err != nil || job.Model != "mine" {
		t.Errorf("job %+v, %v", job.Job, err)
	}
	agent := m.client(api.RoleNode)
	join(t, agent)
	if work := wantWork(t, agent, 0, 1).Attempts[0]; work.BaseSource != fromHub {
		t.Errorf("the stage is told that the model comes from %q", work.BaseSource)
	}
}

func TestReplacingAModelIsForAdmins(t *testing.T) {
	m := newMesh(t)
	user, admin := m.client(api.RoleUser), m.client(api.RoleAdmin)
	first, second := weights("a"), weights("b")
	manifest := func(files map[string]string, replace bool) api.ModelManifest {
		return api.ModelManifest{Architecture: "LlamaForCausalLM", Source: fromHub, Files: list(files), Replace: replace}
	}
	send(t, user, "mine", list(first), first)
	old, err := user.CreateModel(t.Context(), "mine", manifest(first, true)) // there is nothing to replace yet
	if err != nil {
		t.Fatal(err)
	}
	send(t, user, "mine", list(second), second)
	d := upload(t, user, "rows.csv", "text,label\na,b\n")
	if _, err := user.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Pipeline: twoStages(), Config: []byte(`{"model":"mine"}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := user.CreateModel(t.Context(), "mine", manifest(second, false)); refusal(t, err).Status != http.StatusConflict {
		t.Errorf("without a word: %v", err)
	}
	if _, err := user.CreateModel(t.Context(), "mine", manifest(second, true)); refusal(t, err).Status != http.StatusForbidden {
		t.Errorf("as a user: %v", err)
	}
	made, err := admin.CreateModel(t.Context(), "mine", manifest(second, true))
	if err != nil || made.SHA256 == old.SHA256 {
		t.Fatalf("%+v, %v", made, err)
	}
	// A job that has the old files keeps them, also in what it has not begun yet. Where
	// those came from nobody knows any more.
	agent := m.client(api.RoleNode)
	join(t, agent)
	work := wantWork(t, agent, 0, 1).Attempts[0]
	if work.BaseSource != "" {
		t.Errorf("the replaced model comes from %s", work.BaseSource)
	}
	for _, in := range work.Inputs {
		if in.Name == "model.safetensors" && in.SHA256 != sum([]byte(first["model.safetensors"])) {
			t.Errorf("the job begins with %+v", in)
		}
	}
	if err := m.store.VerifyContent(t.Context(), old.Files); err != nil {
		t.Error(err)
	}
	if _, err := m.client(api.RoleViewer).RequestModelUploads(t.Context(), "x", list(first)); refusal(t, err).Status != http.StatusForbidden {
		t.Errorf("as a viewer: %v", err)
	}
}

func TestAModelWithoutItsBytesIsRefused(t *testing.T) {
	m := newMesh(t)
	user := m.client(api.RoleUser)
	for what, spoil := range map[string]func(data string) (sent, field string){
		"nothing":         func(string) (string, string) { return "", "" },
		"fewer bytes":     func(data string) (string, string) { return data[1:], "" },
		"one other byte":  func(data string) (string, string) { return "X" + data[1:], ".sha256" },
		"twice the bytes": func(data string) (string, string) { return data + data, "" },
	} {
		files := weights(what)
		announced := list(files)
		at := slices.IndexFunc(announced, func(f api.ModelFile) bool { return f.Name == "model.safetensors" })
		sent, field := spoil(files["model.safetensors"])
		field = "files[" + string(rune('0'+at)) + "]" + field
		others := weights(what)
		delete(others, "model.safetensors")
		name := strings.ReplaceAll(what, " ", "-")
		send(t, user, name, announced, others)
		if sent != "" {
			m.sendUnsealed(t, name, announced, at, sent)
		}
		manifest := api.ModelManifest{Architecture: "LlamaForCausalLM", Files: announced}
		_, err := user.CreateModel(t.Context(), name, manifest)
		if p := refusal(t, err); p.Status != http.StatusUnprocessableEntity || len(p.Errors) != 1 || p.Errors[0].Field != field || p.Type != api.ProblemNotStored {
			t.Errorf("%s: %v %+v, want a fault of %s", what, err, p.Errors, field)
		}
		if _, err := user.Model(t.Context(), name); refusal(t, err).Status != http.StatusNotFound {
			t.Errorf("%s: the model is there: %v", what, err)
		}
		// Sent rightly it is accepted.
		send(t, user, name, announced, files)
		if _, err := user.CreateModel(t.Context(), name, manifest); err != nil {
			t.Errorf("%s, then all: %v", what, err)
		}
	}
}

func TestModelListsNameTheirFaults(t *testing.T) {
	m := newMesh(t)
	user := m.client(api.RoleUser)
	good := func() api.ModelManifest {
		files := list(weights("a"))
		slices.SortFunc(files, func(a, b api.ModelFile) int { return strings.Compare(a.Name, b.Name) })
		return api.ModelManifest{Architecture: "LlamaForCausalLM", Files: files} // README.md, config.json, ...
	}
	for want, spoil := range map[string]func(*api.ModelManifest){
		"files[0].name":   func(m *api.ModelManifest) { m.Files[0].Name = "../README.md" },
		"files[1].name":   func(m *api.ModelManifest) { m.Files[0].Name = "config.json" },
		"files[2].size":   func(m *api.ModelManifest) { m.Files[2].Size = 6 << 40 },
		"files[3].sha256": func(m *api.ModelManifest) { m.Files[3].SHA256 = "abc" },
		"files":           func(m *api.ModelManifest) { m.Files[0].Name = "config.json/x" },
		"files missing":   func(m *api.ModelManifest) { m.Files = m.Files[:3] },
		"files many":      func(m *api.ModelManifest) { m.Files = append(m.Files, make([]api.ModelFile, 1000)...) },
		"architecture":    func(m *api.ModelManifest) { m.Architecture = "" },
		"parameters":      func(m *api.ModelManifest) { m.Parameters = -1 },
		"source":          func(m *api.ModelManifest) { m.Source = "/home/anna/model" },
		"license":         func(m *api.ModelManifest) { m.License = strings.Repeat("x", 201) },
	} {
		manifest := good()
		spoil(&manifest)
		_, err := user.CreateModel(t.Context(), "mine", manifest)
		field, _, _ := strings.Cut(want, " ")
		if p := refusal(t, err); p.Status != http.StatusUnprocessableEntity || !slices.ContainsFunc(p.Errors, func(e api.FieldError) bool { return e.Field == field }) {
			t.Errorf("%s: %v %+v", want, err, p.Errors)
		}
	}
	for _, name := range []string{"a/b", ".hidden", "..", strings.Repeat("x", 201), "a b"} {
		_, err := user.CreateModel(t.Context(), name, good())
		if p := refusal(t, err); p.Status/100 != 4 {
			t.Errorf("name %q: %v", name, err)
		}
	}
	var body bytes.Buffer
	body.WriteString(`{"files":[{"name":"a","size":"large"}]}`)
	if status := m.status(t, http.MethodPut, "/v1/models/mine", m.tokens[api.RoleUser], body.String()); status != http.StatusUnprocessableEntity {
		t.Errorf("a size that is no number: %d", status)
	}
}
