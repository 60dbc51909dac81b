package rest_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/api/snapshot"
)

// What is saved in one mesh is there in another after the restore, and the
// other's administrator still gets in; a mesh with jobs is not overwritten by
// accident, nor by a damaged file.
func TestAStateIsSavedAndRestored(t *testing.T) {
	from, to := newMesh(t), newMesh(t)
	admin := func(m *mesh, role api.Role) *client.Client {
		return client.New(client.Config{Servers: []string{m.url}, Token: m.tokens[role], Retries: -1})
	}
	data := "text,label\nhello,a\n"
	ds, err := admin(from, api.RoleAdmin).UploadDataset(t.Context(), "x.csv", strings.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	job, err := admin(from, api.RoleAdmin).SubmitJob(t.Context(), api.JobSpec{Dataset: ds.ID})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := admin(from, api.RoleUser).SaveSnapshot(t.Context(), false, &file); err == nil {
		t.Error("a user saves the tokens of all")
	}
	file.Reset()
	if err := admin(from, api.RoleAdmin).SaveSnapshot(t.Context(), false, &file); err != nil {
		t.Fatal(err)
	}
	s, err := snapshot.Inspect(bytes.NewReader(file.Bytes()))
	if err != nil || s.Rows["jobs"] != 1 || s.Rows["datasets"] != 1 || len(s.NotIncluded) == 0 || s.Index == 0 {
		t.Fatalf("%+v %v", s, err)
	}

	into := admin(to, api.RoleAdmin)
	if _, err := into.RestoreSnapshot(t.Context(), bytes.NewReader(file.Bytes()[:file.Len()/2]), false); err == nil {
		t.Error("half a file is restored")
	}
	// Past the client's own look at it.
	resp := to.send(t, "POST", "/v1/snapshot/restore", to.tokens[api.RoleAdmin], string(file.Bytes()[:file.Len()/2]))
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("half a file: %s", resp.Status)
	}
	if _, err := admin(to, api.RoleUser).RestoreSnapshot(t.Context(), bytes.NewReader(file.Bytes()), false); err == nil {
		t.Error("a user restores")
	}
	if _, err := into.RestoreSnapshot(t.Context(), bytes.NewReader(file.Bytes()), false); err != nil {
		t.Fatal(err)
	}
	got, err := into.Job(t.Context(), job.ID)
	if err != nil || len(got.Stages) != len(job.Stages) {
		t.Fatalf("the job after the restore: %+v %v", got, err)
	}
	if _, err := admin(from, api.RoleAdmin).Job(t.Context(), job.ID); err != nil {
		t.Error(err)
	}
	if _, err := into.RestoreSnapshot(t.Context(), bytes.NewReader(file.Bytes()), false); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("a mesh with a job was overwritten: %v", err)
	}
	if _, err := into.RestoreSnapshot(t.Context(), bytes.NewReader(file.Bytes()), true); err != nil {
		t.Error(err)
	}
}
