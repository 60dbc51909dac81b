package e2e

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// Data that validation refuses leaves the report on it with the dead letter, and
// whoever submitted the job can fetch it.
func TestTheReportOnRefusedDataCanBeFetched(t *testing.T) {
	m := newMesh(t)
	ds := m.upload("one-class.csv", []byte("text,label\n"+strings.ReplaceAll(string(labelled(40, "row %d,%s\n")), "tool", "fruit")))
	job := m.await(m.submit(api.JobSpec{Dataset: ds.ID}).ID, time.Minute)
	if s := stage(t, job, "validation"); job.State != api.JobFailed || s.State != api.StageFailed {
		t.Fatalf("job is %s, validation %s: %s", job.State, s.State, pretty(job.Stages))
	}
	letters, err := m.client().DeadLetters(t.Context(), job.ID)
	if err != nil || len(letters) != 1 || len(letters[0].Artifacts) != 1 {
		t.Fatalf("dead letters %s, %v", pretty(letters), err)
	}
	list, err := m.client().Artifacts(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.Stage != "validation" || a.Name != "validation_report.json" {
			continue
		}
		var got bytes.Buffer
		var report struct {
			Passed   bool
			Rows     int
			Findings []struct{ Code string }
		}
		if err := m.client().Download(t.Context(), a.Artifact, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got.Bytes(), &report); err != nil || report.Passed || report.Rows != 40 || len(report.Findings) == 0 {
			t.Errorf("the report is %s, %v", got.Bytes(), err)
		}
		return
	}
	t.Errorf("no report on the data in %s", pretty(list))
}
