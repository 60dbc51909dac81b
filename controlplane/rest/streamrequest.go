package rest

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

func eventsOperation() huma.Operation {
	return op("GET", "/v1/jobs/{id}/events", tagJobs, "stream-events", "Stream a job's events", func(o *huma.Operation) {
		text := func(name, in, what string) *huma.Param {
			return &huma.Param{Name: name, In: in, Required: in == "path", Description: what, Schema: &huma.Schema{Type: "string"}}
		}
		o.Description = "Server-sent events, or JSON lines for Accept: application/x-ndjson. First everything after the number given, then what comes. A reader that was cut off sends the last id that it got as Last-Event-ID, to any server, and misses nothing. " +
			"An id is the event's number and, behind a dot, the life of the stream: should the stream be lost and come back from what its senders have kept, the numbers may mean other events. Such a reader gets the event \"reset\", and then the stream from its beginning; fence and source_seq of each event never change, so that it can pass over what it has. " +
			"Events that are gone, or lines that a node had to drop, are told of by an event in their place, whatever the filters. The stream ends with the event \"end\" once the job is finished."
		o.Parameters = []*huma.Param{
			text("id", "path", "of the job"),
			text("after", "query", "id or number of the last event that the caller has"),
			text("Last-Event-ID", "header", "the same, as browsers send it; goes before after"),
			text("follow", "query", "false: end after the newest event"),
			text("level", "query", "only events of these levels, separated by commas"),
			text("stage", "query", "only events of these stages, separated by commas"),
			text("gzip", "query", "true: compressed where Accept-Encoding allows it, also while following; proxies may hold back what they must unpack"),
		}
		o.Responses = map[string]*huma.Response{"200": {Description: "The stream", Content: map[string]*huma.MediaType{
			"text/event-stream": {}, "application/x-ndjson": {Schema: &huma.Schema{Ref: "#/components/schemas/Event"}},
		}}}
	})
}

// streamRequest is what a reader asked for.
type streamRequest struct {
	job    string
	after  uint64
	life   string // of the stream that after is a number of; empty if not known
	follow bool
	ndjson bool
	gzip   bool
	levels map[string]bool
	stages map[string]bool
	// filter names levels and stages: equal filters want the same events.
	filter string
}

func parseStream(r *http.Request) (streamRequest, error) {
	q := r.URL.Query()
	out := streamRequest{job: r.PathValue("id"), follow: true, levels: set(q.Get("level"), strings.ToUpper), stages: set(q.Get("stage"), strings.TrimSpace)}
	out.filter = names(out.levels) + ";" + names(out.stages)
	after, field := q.Get("after"), "after"
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		after, field = id, "Last-Event-ID"
	}
	var err error
	if after != "" {
		number, life, _ := strings.Cut(after, ".")
		if out.after, err = strconv.ParseUint(number, 10, 64); err != nil {
			return out, fault(field, "is %q, want the number of an event", after)
		}
		out.life = life
	}
	packed := false
	for name, value := range map[string]*bool{"follow": &out.follow, "gzip": &packed} {
		if f := q.Get(name); f != "" {
			if *value, err = strconv.ParseBool(f); err != nil {
				return out, fault(name, "is %q, want true or false", f)
			}
		}
	}
	for accept := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		if kind, _, err := mime.ParseMediaType(accept); err == nil && kind == "application/x-ndjson" {
			out.ndjson = true
		}
	}
	// Browsers accept gzip whether they follow or not; a stream that somebody
	// looks at is packed only where that is asked for.
	out.gzip = acceptsGzip(r.Header.Get("Accept-Encoding")) && (packed || !out.follow)
	return out, nil
}

func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(part, ";")
		if strings.TrimSpace(name) == "gzip" {
			q, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
			return err != nil || q > 0
		}
	}
	return false
}

func set(list string, clean func(string) string) map[string]bool {
	if list == "" {
		return nil
	}
	out := map[string]bool{}
	for item := range strings.SplitSeq(list, ",") {
		out[clean(strings.TrimSpace(item))] = true
	}
	return out
}

func names(set map[string]bool) string {
	var out []string
	for name := range set {
		out = append(out, strconv.Quote(name))
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// wants says whether an event passes the filters. That events are missing always
// does.
func (q streamRequest) wants(e api.Event) bool {
	return e.Gap != nil || events.IsGone(e) || (q.levels == nil || q.levels[e.Level]) && (q.stages == nil || q.stages[e.Stage])
}

// resolve finds where a reader that has events up to a number goes on: there,
// or, with a reason, at the beginning.
func (s *Server) resolve(ctx context.Context, q streamRequest, life string) (after uint64, reset string, err error) {
	if q.after == 0 || q.life == life && life != "" {
		return q.after, "", nil
	}
	for _, p := range s.Store.EventArchives(q.job) {
		if q.life == p.Life && q.after <= p.Last {
			return q.after, "", nil
		}
	}
	if q.life != "" {
		return 0, "the stream was lost and came back from what its senders had kept: its events may have other numbers", nil
	}
	at, err := s.Events.Position(ctx, q.job)
	if err == nil && q.after > at.Last {
		reset = fmt.Sprintf("the stream has %d events, and no number %d", at.Last, q.after)
		return 0, reset, nil
	}
	return q.after, "", err
}
