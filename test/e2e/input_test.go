package e2e

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// untilTraining is the default chain without what comes after preprocessing.
func untilTraining() *api.Pipeline {
	p := api.DefaultPipeline()
	return &api.Pipeline{Nodes: p.Nodes[:3], Edges: p.Edges[:2]}
}

func labelled(n int, format string) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, format, i, []string{"fruit", "tool"}[i%2])
	}
	return b.Bytes()
}

// Files as people have them go through.
func TestGoodFilesGoThrough(t *testing.T) {
	m := newMesh(t)
	var quoted bytes.Buffer
	w := csv.NewWriter(&quoted)
	w.UseCRLF = true
	_ = w.Write([]string{"body", "category"})
	for i := range 40 {
		_ = w.Write([]string{fmt.Sprintf("Zeile %d,\nÄrger mit \"Umlauten\" 🙂", i), []string{"ja", "nein"}[i%2]})
	}
	w.Flush()
	files := map[string][]byte{
		"crlf-quoted.csv": quoted.Bytes(),
		"bom.csv":         append([]byte("\xef\xbb\xbftext,label\n"), labelled(40, "row %d,%s\n")...),
		"tabs.tsv":        append([]byte("text\tlabel\n"), labelled(40, "row %d\t%s\n")...),
		"lines.jsonl":     labelled(40, "{\"text\":\"row %d\",\"label\":%q}\n"),
	}
	jobs := map[string]string{}
	for name, data := range files {
		jobs[name] = m.submit(api.JobSpec{Dataset: m.upload(name, data).ID, Pipeline: untilTraining()}).ID
	}
	for name, id := range jobs {
		if job := m.await(id, time.Minute); job.State != api.JobSucceeded {
			t.Errorf("%s: job is %s: %s\n%s", name, job.State, job.Reason, pretty(job.Stages))
		}
	}
}

// Files that are broken are refused with the place, once, before any training.
func TestBadFilesAreRefusedWithRowAndColumn(t *testing.T) {
	m := newMesh(t)
	good := string(labelled(40, "row %d,%s\n"))
	tests := []struct {
		name   string
		data   string
		config string
		code   string // any if empty
		row    int64
		words  string
	}{
		{"latin1.csv", "text,label\nok,a\nM\xfcller,b\n", "", "", 3, "UTF-8"},
		{"truncated.csv", "text,label\n" + good + "\"never closed,tool\n", "", "", 42, ""},
		{"ragged.csv", "text,label\n" + good + "one,two,three\n", "", "", 42, ""},
		{"header-only.csv", "text,label\n", "", "", 0, ""},
		{"missing-column.csv", "text,label\n" + good, `{"label_column":"category"}`, "", 0, "category"},
		{"one-class.csv", "text,label\n" + strings.ReplaceAll(good, "tool", "fruit"), "", "", 0, "class"},
		{"huge-cell.csv", "text,label\n" + good + strings.Repeat("x", 10<<20) + ",tool\n", "", "", 42, ""},
		{"half.jsonl", string(labelled(40, "{\"text\":\"row %d\",\"label\":%q}\n")) + "{\"text\":\"hal", "", "", 41, ""},
	}
	ids := make([]string, len(tests))
	for i, tt := range tests {
		ids[i] = m.submit(api.JobSpec{Dataset: m.upload(tt.name, []byte(tt.data)).ID, Config: json.RawMessage(tt.config)}).ID
	}
	for i, tt := range tests {
		job := m.await(ids[i], time.Minute)
		if job.State != api.JobFailed {
			t.Errorf("%s: job is %s", tt.name, job.State)
			continue
		}
		var failed *api.Stage
		for _, s := range job.Stages {
			if s.State == api.StageFailed {
				failed = &s
			}
		}
		if failed == nil || failed.Error == nil {
			t.Errorf("%s: no failed stage in %s", tt.name, pretty(job.Stages))
			continue
		}
		e := failed.Error
		if e.Retryable || failed.Attempt != 1 {
			t.Errorf("%s: bad input was tried %d times", tt.name, failed.Attempt)
		}
		if stage(t, job, "training").Attempt != 0 {
			t.Errorf("%s: training started", tt.name)
		}
		if tt.row != 0 && e.Row != tt.row {
			t.Errorf("%s: error says row %d, want %d: %+v", tt.name, e.Row, tt.row, *e)
		}
		if !strings.Contains(e.Message+e.Hint+e.Column, tt.words) {
			t.Errorf("%s: %q is not in %+v", tt.name, tt.words, *e)
		}
	}

	if _, err := m.client().UploadDataset(t.Context(), "empty.csv", strings.NewReader(""), 0); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty file: %v", err)
	}
}

// Three rows go all the way to a GGUF file; the evaluation says that it had
// nothing held out.
func TestThreeRowsGoAllTheWay(t *testing.T) {
	m := newMesh(t)
	ds := m.upload("three.csv", []byte("text,label\nthe lamp is broken,tool\nan apple a day,fruit\nthe saw is blunt,tool\n"))
	job := m.await(m.submit(api.JobSpec{Dataset: ds.ID, Config: json.RawMessage(`{"training":{"max_steps":3}}`)}).ID, 2*time.Minute)
	if job.State != api.JobSucceeded {
		t.Fatalf("job is %s: %s\n%s", job.State, job.Reason, pretty(job.Stages))
	}
	codes := map[string]bool{}
	for _, e := range m.events(job.ID) {
		codes[e.ErrorCode] = true
	}
	if !codes["TOO_FEW_ROWS"] {
		t.Errorf("nothing is said of three rows being few: %v", codes)
	}
}
