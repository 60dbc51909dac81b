package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

func upload(t *testing.T, c *client.Client, name, content string) api.Dataset {
	t.Helper()
	d, err := c.UploadDataset(t.Context(), name, strings.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// faults returns the fields that a problem names.
func faults(t *testing.T, err error) []string {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) {
		t.Fatalf("got %v, want a problem", err)
	}
	var out []string
	for _, e := range p.Errors {
		out = append(out, e.Field)
	}
	return out
}

func TestSubmittingNamesEveryFault(t *testing.T) {
	m := newMesh(t)
	c := m.client(api.RoleUser)
	d := upload(t, c, "t.csv", "text,label\na,b\n")
	pipeline := func(nodes ...api.StageSpec) *api.Pipeline { return &api.Pipeline{Nodes: nodes} }
	cases := []struct {
		name string
		spec api.JobSpec
		want []string
	}{
		{"no dataset", api.JobSpec{}, []string{"dataset"}},
		{"unknown dataset", api.JobSpec{Dataset: "ds_nothing"}, []string{"dataset"}},
		{"bad id", api.JobSpec{ID: "../x", Dataset: d.ID}, []string{"id"}},
		{"misspelt config", api.JobSpec{Dataset: d.ID, Config: json.RawMessage(`{"trainig":{}}`)}, []string{"config.trainig"}},
		{"wrong type", api.JobSpec{Dataset: d.ID, Config: json.RawMessage(`{"training":{"rank":"x"}}`)}, []string{"config.training.rank"}},
		{"out of range", api.JobSpec{Dataset: d.ID, Config: json.RawMessage(`{"training":{"rank":5000,"epochs":-2}}`)}, []string{"config.training.rank", "config.training.epochs"}},
		{"config is no object", api.JobSpec{Dataset: d.ID, Config: json.RawMessage(`[1]`)}, []string{"config"}},
		{"unknown model", api.JobSpec{Dataset: d.ID, Config: json.RawMessage(`{"model":"gpt"}`)}, []string{"config.model"}},
		{"stage's config", api.JobSpec{Dataset: d.ID, Pipeline: pipeline(api.StageSpec{Name: "training", Config: json.RawMessage(`{"training":{"rank":5000}}`)})}, []string{"pipeline.nodes[0].config.training.rank"}},
		{"cycle", api.JobSpec{Dataset: d.ID, Pipeline: &api.Pipeline{Nodes: []api.StageSpec{{Name: "a", Command: []string{"x"}}, {Name: "b", Command: []string{"x"}}}, Edges: []api.Edge{{From: "a", To: "b"}, {From: "b", To: "a"}}}}, []string{"pipeline.edges"}},
		{"several at once", api.JobSpec{Config: json.RawMessage(`{"model":"gpt"}`), Pipeline: pipeline(api.StageSpec{Name: "nope"})}, []string{"pipeline.nodes[0].command", "dataset", "config.model"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := c.SubmitJob(t.Context(), tc.spec)
			if got := faults(t, err); !slices.Equal(got, tc.want) {
				t.Errorf("names %v, want %v\n%v", got, tc.want, err)
			}
		})
	}
	t.Run("custom stages may have keys of their own", func(t *testing.T) {
		j, err := c.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Config: json.RawMessage(`{"mine":1}`), Pipeline: pipeline(api.StageSpec{Name: "a", Command: []string{"true"}})})
		if err != nil || len(j.Stages) != 1 {
			t.Errorf("%+v, %v", j, err)
		}
	})
}

func TestARepeatedSubmitIsTheSameJob(t *testing.T) {
	m := newMesh(t)
	c := m.client(api.RoleUser)
	d := upload(t, c, "t.csv", "text,label\na,b\n")
	spec := api.JobSpec{ID: "01JDTEST000000000000000000", Dataset: d.ID, Name: "first"}
	first, err := c.SubmitJob(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.SubmitJob(t.Context(), spec)
	if err != nil || again.CreatedAt != first.CreatedAt {
		t.Errorf("again: %+v, %v", again, err)
	}
	if first.Model != modelName || first.CreatedBy != "user" || len(first.Stages) != len(api.BuiltinKinds) || first.Stages[0].State != api.StageReady {
		t.Errorf("the job is %+v", first)
	}
	spec.Name = "other"
	var p *api.Problem
	if _, err := c.SubmitJob(t.Context(), spec); !errors.As(err, &p) || p.Status != http.StatusConflict {
		t.Errorf("the same id with another spec: %v", err)
	}
	jobs, err := c.Jobs(t.Context())
	if err != nil || len(jobs) != 1 {
		t.Errorf("%d jobs, %v", len(jobs), err)
	}
	cancelled, err := c.CancelJob(t.Context(), spec.ID, "enough")
	if err != nil || cancelled.State != api.JobCancelled || !strings.Contains(cancelled.Reason, "enough") {
		t.Errorf("cancelled: %+v, %v", cancelled.Job, err)
	}
	resumed, err := c.ResumeJob(t.Context(), spec.ID)
	if err != nil || resumed.State == api.JobCancelled {
		t.Errorf("resumed: %+v, %v", resumed.Job, err)
	}
	if _, err := c.Job(t.Context(), "nothing"); !client.IsNotFound(err) {
		t.Errorf("an unknown job: %v", err)
	}
}

func TestPagesOfJobs(t *testing.T) {
	m := newMesh(t)
	c := m.client(api.RoleUser)
	d := upload(t, c, "t.csv", "text,label\na,b\n")
	var want []string
	for range 7 {
		j, err := c.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID})
		if err != nil {
			t.Fatal(err)
		}
		want = append([]string{j.ID}, want...)
	}
	var got []string
	cursor := ""
	for {
		var page struct {
			Items []api.Job `json:"items"`
			Next  string    `json:"next"`
		}
		m.get(t, "/v1/jobs?limit=3&cursor="+cursor, &page)
		for _, j := range page.Items {
			got = append(got, j.ID)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages hold %v, want %v", got, want)
	}
}

// get reads a route as the admin.
func (m *mesh) get(t testing.TB, path string, out any) *http.Response {
	t.Helper()
	return m.do(t, "GET", path, nil, out)
}

func (m *mesh) do(t testing.TB, method, path string, body []byte, out any) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, m.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	token := m.tokens[api.RoleAdmin]
	if rule := m.rest.Rules(); len(rule) > 0 && strings.Contains(path, "/attempts/") && method == "POST" || strings.HasSuffix(path, "/heartbeat") || strings.HasSuffix(path, "/assignments") || method == "PUT" {
		token = m.tokens[api.RoleNode]
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Fatalf("%s %s: %s: %v", method, path, resp.Status, err)
		}
	}
	return resp
}
