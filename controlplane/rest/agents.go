package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

var nodeID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

type registerIn struct {
	ID   string `path:"id" doc:"of the node"`
	Body api.Registration
}

func (s *Server) registerNode(ctx context.Context, in *registerIn) (*one[api.RegistrationReply], error) {
	if err := speaksFor(ctx, in.ID); err != nil {
		return nil, err
	}
	r := in.Body
	switch {
	case !nodeID.MatchString(in.ID):
		return nil, fault("id", "is %q: use letters, digits and . _ -, at most 128", in.ID)
	case r.Name == "" || len(r.Name) > maxFileName:
		return nil, fault("name", "is %d bytes long, want 1 to %d", len(r.Name), maxFileName)
	case r.Protocol < 1:
		return nil, fault("protocol", "is %d: this server speaks 1 to %d", r.Protocol, api.ProtocolVersion)
	case r.Capability.CPU.Cores < 0 || r.Capability.MemoryBytes < 0 || r.Capability.DiskBytes < 0:
		return nil, fault("capability", "has a negative size")
	}
	node := api.Node{
		ID: in.ID, Name: r.Name, PublicKey: r.PublicKey, Labels: r.Labels, Capability: r.Capability,
		Digest: r.Digest, Version: r.Version, Protocol: r.Protocol,
	}
	if _, err := s.Raft.Apply(ctx, state.UpsertNode{Node: node, At: s.Clock().UTC()}); err != nil {
		return nil, err
	}
	known, err := s.node(in.ID)
	if err != nil {
		return nil, err
	}
	reply := api.RegistrationReply{Node: known.Body, HeartbeatInterval: s.HeartbeatInterval, LeaseTTL: s.LeaseTTL, Protocol: api.ProtocolVersion}
	if s.Gossip != nil {
		if reply.GossipPeers, reply.GossipKeys = s.Gossip(); len(reply.GossipKeys) > 0 {
			reply.GossipKey = reply.GossipKeys[0] // for agents of before protocol version 4
		}
	}
	reply.Servers = s.serverURLs()
	return &one[api.RegistrationReply]{reply}, nil
}

type heartbeatIn struct {
	ID   string `path:"id" doc:"of the node"`
	Body api.Heartbeat
}

func (s *Server) heartbeat(ctx context.Context, in *heartbeatIn) (*one[api.HeartbeatReply], error) {
	if err := speaksFor(ctx, in.ID); err != nil {
		return nil, err
	}
	reply, err := s.Dispatch.Heartbeat(in.ID, in.Body)
	if err == nil && in.Body.GossipKeys != "" && s.Gossip != nil {
		if _, keys := s.Gossip(); api.GossipKeysDigest(keys) != in.Body.GossipKeys {
			reply.Registered = false // its answer tells the keys
		}
	}
	if err == nil && len(reply.Stale) > 0 {
		// The agent will stop these and throw their work away. A server that was cut
		// off or frozen believes for a moment that it still leads, and has not heard
		// of what its successor placed.
		if err := s.Raft.ConsistentRead(ctx); err != nil {
			return nil, err
		}
		reply.Stale = slices.DeleteFunc(reply.Stale, func(fence uint64) bool {
			a, err := s.Store.Attempt(fence)
			return err == nil && !a.State.Terminal() && a.NodeID == in.ID
		})
	}
	return &one[api.HeartbeatReply]{reply}, s.fromDispatch(err)
}

// maxWait bounds a long poll.
const maxWait = time.Minute

type assignmentsIn struct {
	ID    string `path:"id" doc:"of the node"`
	Index uint64 `query:"index" doc:"of the set that the caller has; 0 for none"`
	Wait  string `query:"wait" doc:"Go duration, at most 1m" default:"0s" example:"55s"`
}

func (s *Server) assignments(ctx context.Context, in *assignmentsIn) (*one[api.Assignments], error) {
	if err := speaksFor(ctx, in.ID); err != nil {
		return nil, err
	}
	wait, err := time.ParseDuration(in.Wait)
	if err != nil || wait < 0 {
		return nil, fault("wait", "is %q, want a duration such as 55s", in.Wait)
	}
	if err := s.Raft.ConsistentRead(ctx); err != nil {
		return nil, err
	}
	if _, err := s.Store.Node(in.ID); err != nil {
		return nil, err
	}
	poll, cancel := s.bounded(ctx)
	defer cancel()
	poll, stop := context.WithTimeout(poll, min(wait, maxWait))
	defer stop()
	// One look for all polls: 10,000 of them would wake 10,000 times a second.
	defer s.reign.join(s.Raft.IsLeader, cancel)()
	for fresh := true; ; fresh = false {
		changed := s.Store.WatchNode(in.ID)
		view := s.Store.At()
		attempts, index := view.Desired(in.ID)
		// Any other index, not only a larger one: a mesh that was set up anew
		// counts from the start.
		if index != in.Index || poll.Err() != nil {
			if !fresh {
				// What is not in the answer will be stopped. A server that was frozen
				// while it waited does not know yet that another leads.
				if err := s.Raft.ConsistentRead(ctx); err != nil {
					return nil, err
				}
				view = s.Store.At()
				attempts, index = view.Desired(in.ID)
			}
			list, err := s.compose(ctx, view, attempts)
			return &one[api.Assignments]{api.Assignments{Index: index, Attempts: list}}, err
		}
		select {
		case <-changed:
		case <-poll.Done():
		}
		// What another leader places now would not show here.
		if !s.Raft.IsLeader() {
			return nil, notLeader()
		}
	}
}

// attempt returns the attempt that a call is about, which must be the caller's
// own. One that the state does not know can never become current: its fence is
// stale.
func (s *Server) attempt(ctx context.Context, fence uint64) (api.Attempt, error) {
	a, err := s.Store.Attempt(fence)
	if errors.Is(err, state.ErrNotFound) {
		// As in heartbeat: only who surely leads may say so.
		if err := s.Raft.ConsistentRead(ctx); err != nil {
			return a, err
		}
		a, err = s.Store.Attempt(fence)
	}
	if errors.Is(err, state.ErrNotFound) {
		return a, staleFence(fmt.Sprintf("no attempt has the fence %d", fence))
	}
	if err == nil {
		err = speaksFor(ctx, a.NodeID)
	}
	return a, err
}

// live is attempt for calls that only a live attempt may make.
func (s *Server) live(ctx context.Context, fence uint64) (api.Attempt, error) {
	a, err := s.attempt(ctx, fence)
	if err == nil && a.State.Terminal() {
		return a, staleFence(fmt.Sprintf("the attempt with the fence %d is %s", fence, a.State))
	}
	return a, err
}

type eventsIn struct {
	Fence uint64 `path:"fence" doc:"of the attempt"`
	Body  api.EventBatch
}

// maxBatch bounds the events of one request.
const maxBatch = 10_000

func (s *Server) appendEvents(ctx context.Context, in *eventsIn) (*one[api.EventAck], error) {
	if in.Body.FirstSeq == 0 {
		return nil, fault("first_seq", "is 0: lines are numbered from 1")
	}
	if len(in.Body.Events) > maxBatch {
		return nil, fault("events", "has %d items, at most %d are allowed", len(in.Body.Events), maxBatch)
	}
	// Late lines of an attempt that has ended are welcome: they say why.
	a, err := s.attempt(ctx, in.Fence)
	if err != nil {
		return nil, err
	}
	list := in.Body.Events
	due := in.Body.FirstSeq
	for i := range list {
		if due, err = numbered(due, list[i]); err != nil {
			return nil, err
		}
		s.sign(&list[i], a)
	}
	next, err := s.Events.Append(ctx, a.JobID, events.Source(a.Fence), in.Body.FirstSeq, list)
	if err != nil && !errors.Is(err, events.ErrHole) {
		s.Log.Error("events could not be stored", "job", a.JobID, "fence", a.Fence, "err", err)
		return nil, problem(http.StatusServiceUnavailable, api.ProblemOverloaded, "the event log did not take the batch: send it again")
	}
	if err == nil {
		s.metrics.observe(list, s.Clock())
	}
	return &one[api.EventAck]{api.EventAck{NextSeq: next, Archived: s.archivedUpto(a, next-1)}}, nil
}

// numbered returns the number that is due after an event which is due now.
func numbered(due uint64, e api.Event) (uint64, error) {
	if e.Gap == nil {
		return due + 1, nil
	}
	const most = 1 << 40 // lines
	if g := e.Gap; g.From != due || g.To < g.From || g.To-g.From >= most {
		return 0, fault("events.gap", "is %d to %d where line %d is due", g.From, g.To, due)
	}
	return e.Gap.To + 1, nil
}

// Later is told of lines that came after their job's events were archived.
// dispatch.Dispatcher is one.
type Later interface{ Late(jobID string) }

// archivedUpto says whether an attempt's lines up to a number are archived. Where
// the job has ended and they are not, they came late.
func (s *Server) archivedUpto(a api.Attempt, last uint64) bool {
	parts := s.Store.EventArchives(a.JobID)
	if len(parts) == 0 {
		return false
	}
	if events.BaseOf(parts).Sources[events.Source(a.Fence)] >= last {
		return true
	}
	if j, err := s.Store.Job(a.JobID); err == nil && j.State.Terminal() {
		if d, ok := s.Dispatch.(Later); ok {
			d.Late(a.JobID)
		}
	}
	return false
}

// sign puts what the server knows of an attempt in the place of what its agent
// says, so that no attempt can speak for another.
func (s *Server) sign(e *api.Event, a api.Attempt) {
	e.RunID, e.Stage, e.Attempt, e.Fence, e.Node = a.JobID, a.Stage, a.Number, a.Fence, a.NodeID
	e.From, e.To = "", ""
	switch e.Level {
	case api.LevelInfo, api.LevelWarn, api.LevelError, api.LevelMetric:
	default: // STATE is the control plane's own
		e.Level = api.LevelInfo
	}
	if e.Timestamp.IsZero() {
		e.Timestamp = s.Clock()
	}
	e.Timestamp = e.Timestamp.UTC()
}

type uploadsIn struct {
	Fence uint64 `path:"fence" doc:"of the attempt"`
	Body  api.UploadRequest
}

// maxFiles bounds an attempt's files.
const maxFiles = 10_000

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (s *Server) requestUploads(ctx context.Context, in *uploadsIn) (*one[api.UploadReply], error) {
	a, err := s.live(ctx, in.Fence)
	if err != nil {
		return nil, err
	}
	if len(in.Body.Files) > maxFiles {
		return nil, fault("files", "has %d items, at most %d are allowed", len(in.Body.Files), maxFiles)
	}
	if in.Body.Checkpoint != "" {
		if err := artifacts.CheckSegment(in.Body.Checkpoint); err != nil {
			return nil, fault("checkpoint", "%v", err)
		}
	}
	names := map[string][]string{} // by place
	reply := api.UploadReply{Files: make([]api.Artifact, 0, len(in.Body.Files))}
	link := s.putLink(in.Body.Sealed)
	for i, f := range in.Body.Files {
		field := fmt.Sprintf("files[%d]", i)
		out, err := s.destination(in.Body.Checkpoint, a, f, field, api.MaxPut)
		if err != nil {
			return nil, err
		}
		names[f.Place] = append(names[f.Place], f.Name)
		if out.URL, err = link(ctx, out); err != nil {
			return nil, err
		}
		reply.Files = append(reply.Files, out)
	}
	for _, list := range names {
		if dir, name := artifacts.Nested(list); dir != "" {
			return nil, fault("files", "%q and %q cannot lie side by side: one is the folder of the other", dir, name)
		}
	}
	return &one[api.UploadReply]{reply}, nil
}

// putLink makes presigned PUTs: bound to the files' hashes where the caller and
// the store can do that.
func (s *Server) putLink(sealed bool) func(context.Context, api.Artifact) (string, error) {
	if store, ok := s.Objects.(sealer); ok && sealed {
		return func(ctx context.Context, a api.Artifact) (string, error) {
			return store.PresignSealedPut(ctx, a.Bucket, a.Key, a.SHA256)
		}
	}
	return func(ctx context.Context, a api.Artifact) (string, error) {
		return s.Objects.PresignPut(ctx, a.Bucket, a.Key)
	}
}

// destination says where an attempt's file goes, or what is wrong with it.
func (s *Server) destination(checkpoint string, a api.Attempt, f api.UploadFile, field string, most int64) (api.Artifact, error) {
	out := api.Artifact{Name: f.Name, Size: f.Size, SHA256: f.SHA256}
	if err := artifacts.CheckName(f.Name); err != nil {
		return out, fault(field+".name", "%v", err)
	}
	if f.Size < 0 || f.Size > most {
		return out, fault(field+".size", "is %d bytes, want 0 to %d", f.Size, most)
	}
	if !sha256Hex.MatchString(f.SHA256) {
		return out, fault(field+".sha256", "is no SHA-256 in hex")
	}
	if checkpoint != "" {
		out.Bucket, out.Key = api.BucketCheckpoints, artifacts.CheckpointKey(a.JobID, checkpoint, a.Fence, f.Name)
		return out, nil
	}
	var err error
	if out.Bucket, out.Key, err = artifacts.PlaceKey(f.Place, a.JobID, a.Fence, f.Name); err != nil {
		return out, fault(field+".place", "%v", err)
	}
	return out, nil
}

type checkpointIn struct {
	Fence uint64 `path:"fence" doc:"of the attempt"`
	Body  api.CheckpointReport
}

type done struct{}

func (s *Server) reportCheckpoint(ctx context.Context, in *checkpointIn) (*done, error) {
	a, err := s.live(ctx, in.Fence)
	if err != nil {
		return nil, err
	}
	saved := in.Body
	if err := artifacts.CheckSegment(saved.Name); err != nil {
		return nil, fault("name", "%v", err)
	}
	if len(saved.Files) == 0 || len(saved.Files) > maxFiles {
		return nil, fault("files", "has %d items, want 1 to %d", len(saved.Files), maxFiles)
	}
	for i := range saved.Files {
		saved.Files[i].URL = ""
		if !artifacts.OwnsCheckpoint(saved.Files[i], a.JobID, saved.Name, a.Fence) {
			return nil, fault(fmt.Sprintf("files[%d].key", i), "is not where this attempt's checkpoint %s lies", saved.Name)
		}
	}
	if err := s.present(ctx, "files", saved.Files); err != nil {
		return nil, err
	}
	_, err = s.Raft.Apply(ctx, state.RecordCheckpoint{Fence: a.Fence, Saved: saved, At: s.Clock().UTC()})
	return nil, err
}

// present makes sure that the object store holds what was reported.
func (s *Server) present(ctx context.Context, field string, list []api.Artifact) error {
	err := s.Objects.Verify(ctx, list)
	var missing *artifacts.MissingError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &missing):
		for i, a := range list {
			if a.Bucket == missing.Artifact.Bucket && a.Key == missing.Artifact.Key {
				field = fmt.Sprintf("%s[%d]", field, i)
				break
			}
		}
		p := notStored("%v: upload it before it is reported", err)
		p.Errors = []api.FieldError{{Field: field, Message: missing.Error()}}
		return p
	}
	s.Log.Error("reported files could not be checked", "err", err)
	return problem(http.StatusServiceUnavailable, api.ProblemOverloaded, "the object store does not answer: report it again")
}

type reportIn struct {
	Fence uint64 `path:"fence" doc:"of the attempt"`
	Body  api.AttemptReport
}

// maxOutput bounds a stage's output in bytes; the stage contract says so too.
const maxOutput = 64 << 10

func (s *Server) reportAttempt(ctx context.Context, in *reportIn) (*done, error) {
	r := in.Body
	a, err := s.attempt(ctx, in.Fence)
	if err != nil {
		return nil, err
	}
	switch r.State {
	case api.AttemptRunning, api.AttemptSucceeded, api.AttemptFailed, api.AttemptCancelled:
	default:
		return nil, fault("state", "is %q, want running, succeeded, failed or cancelled", r.State)
	}
	if len(r.Output) > maxOutput {
		return nil, fault("output", "is %d bytes, at most %d are allowed: put large things into artifacts", len(r.Output), maxOutput)
	}
	if len(r.Output) > 0 && string(r.Output) != "null" && r.Output[0] != '{' {
		return nil, fault("output", "is no JSON object")
	}
	if len(r.Artifacts) > maxFiles {
		return nil, fault("artifacts", "has %d items, at most %d are allowed", len(r.Artifacts), maxFiles)
	}
	if r.State == api.AttemptFailed && r.Error == nil {
		return nil, fault("error", "is required where the state is failed")
	}
	if r.Error != nil {
		r.Error.Retryable = contract.Class(r.Error.Class).Retryable()
	}
	for i := range r.Artifacts {
		r.Artifacts[i].URL = ""
		if !artifacts.Owns(r.Artifacts[i], a.JobID, a.Fence) {
			return nil, fault(fmt.Sprintf("artifacts[%d].key", i), "is not where this attempt's files lie")
		}
	}
	// What has moved on is told so before the store is asked.
	if !a.State.Terminal() && len(r.Artifacts) > 0 {
		if err := s.present(ctx, "artifacts", r.Artifacts); err != nil {
			return nil, err
		}
	}
	return nil, s.fromDispatch(s.Dispatch.Report(ctx, in.Fence, r))
}
