package rest_test

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/api/transfer"
)

// assigned is an attempt that an agent has been given.
func assigned(t *testing.T, m *mesh, agent *client.Client) api.Assignment {
	t.Helper()
	user := m.client(api.RoleUser)
	d := upload(t, user, "t.csv", "text,label\na,b\n")
	join(t, agent)
	if _, err := user.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Pipeline: twoStages()}); err != nil {
		t.Fatal(err)
	}
	return wantWork(t, agent, 0, 1).Attempts[0]
}

func TestAnAttemptsFileGoesInParts(t *testing.T) {
	m := newMesh(t)
	agent := m.client(api.RoleNode)
	a := assigned(t, m, agent)
	const each = api.MinPart
	data := bytes.Repeat([]byte("0123456789abcdef"), (each+1000)/16)
	req := api.MultipartRequest{File: api.UploadFile{Name: "big.bin", Size: int64(len(data)), SHA256: sum(data)}}
	do := func(step api.MultipartStep, r api.MultipartRequest) api.Multipart {
		t.Helper()
		out, err := agent.Multipart(t.Context(), a.Fence, step, r)
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		return out
	}
	up := do(api.MultipartBegin, req)
	if up.UploadID == "" || up.Done || len(up.Parts) > 0 || up.File.Key == "" {
		t.Fatalf("begin answers %+v", up)
	}
	req.UploadID = up.UploadID
	notStored := func(err error) bool {
		var p *api.Problem
		return errors.As(err, &p) && p.Type == api.ProblemNotStored
	}
	if _, err := agent.Multipart(t.Context(), a.Fence, api.MultipartComplete, req); !notStored(err) {
		t.Errorf("completed without its parts: %v", err)
	}
	if err := agent.ReportAttempt(t.Context(), a.Fence, api.AttemptReport{State: api.AttemptSucceeded, Artifacts: []api.Artifact{up.File}}); !notStored(err) {
		t.Errorf("reported before it is stored: %v", err)
	}
	parts := []api.UploadPart{{Number: 1, Size: each, SHA256: sum(data[:each])}, {Number: 2, Size: int64(len(data)) - each, SHA256: sum(data[each:])}}
	req.Parts = parts
	for i, p := range do(api.MultipartLinks, req).Parts {
		at := int64(i) * each
		piece := api.Artifact{Name: "part", Size: p.Size, SHA256: p.SHA256, URL: p.URL}
		if err := agent.Put(t.Context(), piece, bytes.NewReader(data[at:at+p.Size])); err != nil {
			t.Fatal(err)
		}
	}
	if got := do(api.MultipartBegin, req).Parts; !slices.Equal(got, parts) {
		t.Errorf("the store has %+v, want %+v", got, parts)
	}
	for range 2 { // an answer may be lost
		if got := do(api.MultipartComplete, req); !got.Done {
			t.Errorf("complete answers %+v", got)
		}
	}
	if got := do(api.MultipartBegin, req); !got.Done {
		t.Errorf("begun again: %+v", got)
	}
	if err := agent.ReportAttempt(t.Context(), a.Fence, api.AttemptReport{State: api.AttemptSucceeded, Artifacts: []api.Artifact{up.File}}); err != nil {
		t.Error(err)
	}
	if _, err := agent.Multipart(t.Context(), a.Fence, api.MultipartBegin, req); !client.IsStale(err) {
		t.Errorf("begun after the end: %v", err)
	}
}

func TestWrongPartsNameTheirFaults(t *testing.T) {
	m := newMesh(t)
	agent := m.client(api.RoleNode)
	a := assigned(t, m, agent)
	good := func() api.MultipartRequest {
		return api.MultipartRequest{File: api.UploadFile{Name: "a", Size: 1, SHA256: sum(nil)}, UploadID: "u", Parts: []api.UploadPart{{Number: 1, SHA256: sum(nil)}}}
	}
	for want, spoil := range map[string]func(*api.MultipartRequest){
		"file.name":        func(r *api.MultipartRequest) { r.File.Name = "../a" },
		"file.size":        func(r *api.MultipartRequest) { r.File.Size = api.MaxObject + 1 },
		"file.sha256":      func(r *api.MultipartRequest) { r.File.SHA256 = "x" },
		"file.place":       func(r *api.MultipartRequest) { r.File.Place = "elsewhere" },
		"checkpoint":       func(r *api.MultipartRequest) { r.Checkpoint = ".." },
		"upload_id":        func(r *api.MultipartRequest) { r.UploadID = "" },
		"parts":            func(r *api.MultipartRequest) { r.Parts = nil },
		"parts[0].number":  func(r *api.MultipartRequest) { r.Parts[0].Number = api.MaxParts + 1 },
		"parts[0].sha256":  func(r *api.MultipartRequest) { r.Parts[0].SHA256 = "" },
		"upload_id (long)": func(r *api.MultipartRequest) { r.UploadID = strings.Repeat("u", 2000) },
	} {
		req := good()
		spoil(&req)
		_, err := agent.Multipart(t.Context(), a.Fence, api.MultipartLinks, req)
		field, _, _ := strings.Cut(want, " ")
		if got := faults(t, err); !slices.Equal(got, []string{field}) {
			t.Errorf("%s: names %v", want, got)
		}
	}
	if _, err := m.client(api.RoleUser).Multipart(t.Context(), a.Fence, api.MultipartBegin, good()); err == nil {
		t.Error("a user began the upload of an attempt's file")
	}
}

func TestALargeModelGoesInParts(t *testing.T) {
	m := newMesh(t)
	user := m.client(api.RoleUser)
	weights := bytes.Repeat([]byte("weights of a model\n"), transfer.PartsFrom/19+1)
	content := map[string][]byte{"config.json": []byte("{}"), "tokenizer.json": []byte("[]"), "model.safetensors": weights}
	var files []api.ModelFile
	for name, data := range content {
		files = append(files, api.ModelFile{Name: name, Size: int64(len(data)), SHA256: sum(data)})
	}
	places, err := user.RequestModelUploads(t.Context(), "large", files)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range places {
		var moved atomic.Int64
		if p.Name == "model.safetensors" {
			p.URL = "" // as of a file beyond what one PUT takes
		}
		if err := user.SendModelFile(t.Context(), "large", files, p, bytes.NewReader(content[p.Name]), func(n int64) { moved.Add(n) }); err != nil {
			t.Fatal(err)
		}
		if moved.Load() != p.Size {
			t.Errorf("%s: %d bytes were counted, want %d", p.Name, moved.Load(), p.Size)
		}
	}
	if _, err := user.CreateModel(t.Context(), "large", api.ModelManifest{Architecture: "LlamaForCausalLM", Files: files}); err != nil {
		t.Fatal(err)
	}
	huge := slices.Clone(files)
	for i := range huge {
		huge[i].SHA256 = sum([]byte(huge[i].Name))
	}
	huge[0].Size = api.MaxPut + 1
	places, err = user.RequestModelUploads(t.Context(), "huge", huge)
	if err != nil || places[0].URL != "" || places[1].URL == "" {
		t.Errorf("links of a file that no PUT takes: %v", err)
	}
	_, err = user.CreateModel(t.Context(), "none", api.ModelManifest{Architecture: "x", Files: huge})
	var p *api.Problem
	if !errors.As(err, &p) || p.Type != api.ProblemNotStored || p.Status != http.StatusUnprocessableEntity {
		t.Errorf("a model without its files: %v", err)
	}
}
