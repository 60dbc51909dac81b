package rest_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events/eventstest"
	"github.com/tunemesh/tunemesh/controlplane/rest"
)

// whole reads a stream to its end.
func (m *mesh) whole(t *testing.T, path string, header map[string]string) string {
	t.Helper()
	resp := m.open(t, path, header)
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v: %s", path, resp.Status, err, data)
	}
	return string(data)
}

// lastID is the id of a stream's last event.
func lastID(t *testing.T, stream string) string {
	t.Helper()
	i := strings.LastIndex(stream, "id: ")
	if i < 0 {
		t.Fatalf("no id in %q", stream)
	}
	id, _, _ := strings.Cut(stream[i+4:], "\n")
	return id
}

// A reader whose stream was lost is told so, and gets all from the beginning;
// one whose stream lives goes on where it was.
func TestAReaderOfALostStreamIsReset(t *testing.T) {
	m := newMesh(t)
	job := running(t, m, 10)
	path := "/v1/jobs/" + job + "/events?follow=false"
	id := lastID(t, m.whole(t, path, nil))
	if got := m.whole(t, path, map[string]string{"Last-Event-ID": id}); strings.Contains(got, "data: {\"seq\"") || strings.Contains(got, "event: reset") {
		t.Errorf("the same stream from its end: %q", got)
	}
	// Another source is refused for a hole: the log has lost lines.
	if _, err := m.events.Append(t.Context(), job, "a9", 5, eventstest.Batch("a9", 5, 1)); err == nil {
		t.Fatal("no hole")
	}
	for name, header := range map[string]map[string]string{"of the old life": {"Last-Event-ID": id}, "of no event": {"Last-Event-ID": "9999"}} {
		got := m.whole(t, path, header)
		if !strings.HasPrefix(got, ":\n\nevent: reset\ndata: {\"reason\":") || strings.Count(got, "a1/") != 10 || !strings.Contains(got, "\nid: 1.") {
			t.Errorf("an id %s: %.400q", name, got)
		}
	}
	// A number alone is taken at its word, where there is such an event.
	if got := m.whole(t, path+"&after=1", nil); strings.Contains(got, "event: reset") || strings.Contains(got, "\nid: 1.") {
		t.Errorf("a number alone: %.300q", got)
	}
	resp := m.open(t, path+"&after=9999", map[string]string{"Accept": "application/x-ndjson"})
	if resp.StatusCode != http.StatusGone {
		t.Errorf("JSON lines after an event that is not there: %s, want 410", resp.Status)
	}
}

// A stream that is lost while it is read says so too, and the client hands out
// each line once all the same.
func TestAnOpenStreamIsResetAndTheClientPassesOverWhatItHad(t *testing.T) {
	m := newMesh(t)
	job := running(t, m, 0)
	c := m.client(api.RoleViewer)
	var n, last atomic.Int64
	done := make(chan error, 1)
	go func() {
		done <- c.Events(t.Context(), job, 0, true, func(e api.Event) error {
			if e.Fence == 0 {
				return nil
			}
			if int64(e.SourceSeq) != last.Load()+1 {
				return fmt.Errorf("line %d comes after %d", e.SourceSeq, last.Load())
			}
			last.Store(int64(e.SourceSeq))
			n.Add(1)
			return nil
		})
	}()
	lines := func(first uint64, count int) {
		t.Helper()
		list := eventstest.Batch("a7", first, count)
		for i := range list {
			list[i].Fence = 7
		}
		if _, err := m.events.Append(t.Context(), job, "a7", first, list); err != nil {
			t.Fatal(err)
		}
	}
	lines(1, 20)
	for n.Load() < 20 {
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := m.events.Append(t.Context(), job, "a9", 5, eventstest.Batch("a9", 5, 1)); err == nil {
		t.Fatal("no hole")
	}
	lines(21, 20)
	if _, err := m.client(api.RoleUser).CancelJob(t.Context(), job, ""); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || n.Load() != 40 {
		t.Errorf("%d lines, %v", n.Load(), err)
	}
}

func TestStreamsArePackedWhereThatIsAskedFor(t *testing.T) {
	m := newMesh(t)
	job := running(t, m, 200)
	base := "/v1/jobs/" + job + "/events"
	plain := m.whole(t, base+"?follow=false", map[string]string{"Accept-Encoding": "identity"})
	packed := m.open(t, base+"?follow=false", map[string]string{"Accept-Encoding": "br, gzip;q=0.5"})
	if packed.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("not packed: %v", packed.Header)
	}
	zip, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(zip); err != nil || string(got) != plain {
		t.Errorf("unpacked it is another stream: %d bytes, %v; want %d", len(got), err, len(plain))
	}
	for query, want := range map[string]string{"": "", "?gzip=true": "gzip", "?follow=false&x": "gzip"} {
		resp := m.open(t, base+query, map[string]string{"Accept-Encoding": "gzip"})
		if got := resp.Header.Get("Content-Encoding"); got != want {
			t.Errorf("%q is packed by %q, want %q", query, got, want)
		}
	}
	if resp := m.open(t, base+"?follow=false", map[string]string{"Accept-Encoding": "gzip;q=0"}); resp.Header.Get("Content-Encoding") != "" {
		t.Error("packed for a reader that refuses it")
	}
	// A packed stream that goes on is flushed with each event.
	live := m.open(t, base+"?gzip=true&after=200", map[string]string{"Accept-Encoding": "gzip"})
	if zip, err = gzip.NewReader(live.Body); err != nil {
		t.Fatal(err)
	}
	appendLines(t, m, job, 201, 1)
	buf, got := make([]byte, 4096), ""
	for !strings.Contains(got, "a1/201") {
		n, err := zip.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got += string(buf[:n])
	}
}

// What is missing is told of whatever a reader asked for.
func TestGapsPassEveryFilter(t *testing.T) {
	m := newMesh(t)
	job := running(t, m, 3)
	if _, err := m.events.Append(t.Context(), job, "a1", 4, []api.Event{eventstest.GapEvent(4, 90)}); err != nil {
		t.Fatal(err)
	}
	got := m.whole(t, "/v1/jobs/"+job+"/events?follow=false&level=ERROR&stage=none", nil)
	if !strings.Contains(got, `"gap":{"from":4,"to":90,"why":"test"}`) || strings.Contains(got, "a1/3") {
		t.Errorf("filtered: %q", got)
	}
}

// switched is a Raft that can lose its leadership.
type switched struct {
	rest.Raft
	lost atomic.Bool
}

func (s *switched) IsLeader() bool { return !s.lost.Load() && s.Raft.IsLeader() }

func TestStreamsEndWhenTheServerCeasesToLead(t *testing.T) {
	var raft *switched
	m := newMesh(t, func(c *rest.Config) {
		raft = &switched{Raft: c.Raft}
		c.Raft = raft
	})
	job := running(t, m, 1)
	resp := m.open(t, "/v1/jobs/"+job+"/events", nil)
	raft.lost.Store(true)
	began := time.Now()
	data, err := io.ReadAll(resp.Body)
	if err != nil || strings.Contains(string(data), "event: end") || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %v, %q", time.Since(began), err, data)
	}
}

func TestBatchesMayBePackedAndNotBeyondTheirLimit(t *testing.T) {
	m := newMesh(t)
	agent := m.client(api.RoleNode)
	join(t, agent)
	d := upload(t, m.client(api.RoleUser), "t.csv", "text,label\na,b\n")
	if _, err := m.client(api.RoleUser).SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Pipeline: twoStages()}); err != nil {
		t.Fatal(err)
	}
	fence := wantWork(t, agent, 0, 1).Attempts[0].Fence
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	gz := func(data []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(data)
		_ = w.Close()
		return b.Bytes()
	}
	body := func(first uint64, e api.Event) []byte {
		data, err := json.Marshal(api.EventBatch{FirstSeq: first, Events: []api.Event{e}})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	hello := api.Event{Level: api.LevelInfo, Message: "hello"}
	bomb := bytes.Repeat([]byte(" "), 200<<20)
	badGap := api.Event{Level: api.LevelWarn, Gap: &api.Gap{From: 3, To: 1 << 60}}
	for name, c := range map[string]struct {
		body     []byte
		encoding string
		status   int
	}{
		"zstd":            {enc.EncodeAll(body(1, hello), nil), "zstd", 200},
		"gzip":            {gz(body(2, hello)), "gzip", 200},
		"plain":           {body(1, hello), "identity", 200},
		"unknown":         {body(1, hello), "br", 415},
		"broken zstd":     {[]byte("nonsense"), "zstd", 400},
		"broken gzip":     {[]byte("nonsense"), "gzip", 400},
		"a bomb in zstd":  {enc.EncodeAll(bomb, nil), "zstd", 413},
		"a bomb in gzip":  {gz(bomb), "gzip", 413},
		"a gap too large": {body(3, badGap), "identity", 422},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", fmt.Sprintf("%s/v1/attempts/%d/events", m.url, fence), bytes.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+m.tokens[api.RoleNode])
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Content-Encoding", c.encoding)
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s, want %d: %s", name, resp.Status, c.status, answer)
		}
	}
}
