package e2e

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tunemesh/tunemesh/api"
)

// span is one that the collector received.
type span struct{ trace, id, parent, name, service string }

// spanCollector speaks OTLP over HTTP, as Jaeger or Tempo would.
type spanCollector struct {
	mu    sync.Mutex
	spans []span
}

func (c *spanCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, "no trace", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, group := range request.ResourceSpans {
		service := ""
		for _, a := range group.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, scope := range group.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans = append(c.spans, span{hex.EncodeToString(s.TraceId), hex.EncodeToString(s.SpanId), hex.EncodeToString(s.ParentSpanId), s.Name, service})
			}
		}
	}
}

// of are the spans of one trace.
func (c *spanCollector) of(trace string) []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.spans), func(s span) bool { return s.trace != trace })
}

// A job's spans are one tree, from the submit over placement, agent and trainer
// to the artifact.
func TestAJobsTraceIsOneTree(t *testing.T) {
	spans := &spanCollector{}
	server := httptest.NewServer(spans)
	defer server.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
	m := newMesh(t)
	ds := m.upload("small.csv", []byte(smallCSV))
	job := m.submit(api.JobSpec{Dataset: ds.ID, Pipeline: &api.Pipeline{
		Nodes: []api.StageSpec{{Name: "dataset"}, {Name: "validation"}, {Name: "mine", Command: []string{"sh", "-c", `echo "parent=$TRACEPARENT headers=$OTEL_EXPORTER_OTLP_HEADERS"; echo "{\"status\":\"success\"}" > "$TUNEMESH_RESULT"`}}},
		Edges: []api.Edge{{From: "dataset", To: "validation"}, {From: "validation", To: "mine"}},
	}})
	if done := m.await(job.ID, time.Minute); done.State != api.JobSucceeded {
		t.Fatalf("job is %s: %s", done.State, pretty(done.Stages))
	}
	said := ""
	for _, e := range m.events(job.ID) {
		if strings.HasPrefix(e.Message, "parent=") {
			said = e.Message
		}
	}
	parts := strings.Split(strings.TrimPrefix(said, "parent="), "-")
	if len(parts) != 4 || !strings.HasSuffix(said, " headers=") {
		t.Fatalf("the custom stage said %q: want a traceparent, and no headers", said)
	}
	m.stop() // what is left is sent at the end

	all := spans.of(parts[1])
	ids, count, roots := map[string]span{}, map[string]int{}, []span{}
	for _, s := range all {
		ids[s.id] = s
		count[s.service+": "+s.name]++
	}
	for _, s := range all {
		if s.parent == "" {
			roots = append(roots, s)
		} else if _, ok := ids[s.parent]; !ok {
			t.Errorf("span %q of %s hangs under one that nobody sent", s.name, s.service)
		}
	}
	if len(roots) != 1 || roots[0].name != "POST /v1/jobs" {
		t.Errorf("roots %v, want the submit alone", roots)
	}
	for name, want := range map[string]int{
		"tunemesh: POST /v1/jobs": 1, "tunemesh: place": 3, "tunemesh: attempt": 3, "tunemesh: prepare": 3, "tunemesh: process": 3,
		"tunemesh: upload": 3, "tunemesh: report": 3, "tunemesh-trainer: stage dataset": 1, "tunemesh-trainer: stage validation": 1,
	} {
		if count[name] != want {
			t.Errorf("%d spans %q, want %d; all: %v", count[name], name, want, count)
		}
	}
	mine, ok := ids[parts[2]]
	if !ok || mine.name != "attempt" {
		t.Errorf("the custom stage's parent is %q, want its attempt", mine.name)
	}
}
