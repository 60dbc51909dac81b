package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/snapshot"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// Snapshots takes and restores backups of the state. consensus.Node is one.
type Snapshots interface {
	// ID is the server's.
	ID() string
	// Snapshot is the state as it is now, and the Raft term.
	Snapshot() (state.View, uint64)
	// Restore replaces the whole cluster's state; on the leader alone.
	Restore(ctx context.Context, r io.Reader) error
}

const (
	// maxSnapshot bounds what a restore reads, in bytes as sent.
	maxSnapshot = 4 << 30
	restoreTime = 2 * time.Minute
)

// notIncluded is what a backup of the state does not hold.
var notIncluded = []string{
	"objects: datasets, models, checkpoints and artifacts lie in the object store; back up its bucket",
	"events: the lines of jobs lie in Redis, on servers' disks and, archived, in the object store",
	"the cluster secret, which lies in the servers' data folders; a cluster founded with the same secret is known to all agents",
}

func snapshotOperation() huma.Operation {
	return op("GET", "/v1/snapshot", tagServer, "save-snapshot", "Save the control plane's state", func(o *huma.Operation) {
		o.Description = "A consistent copy of the replicated state, as one file: gzip around lines of JSON, with a checksum. It holds no objects and no events, but it does hold the key of the cluster's CA and the secrets of its servers: keep it secret. With ?stale it is this server's own state."
		o.Parameters = []*huma.Param{{Name: "stale", In: "query", Description: "this server's own state, which may be behind", Schema: &huma.Schema{Type: "string"}}}
		o.Responses = map[string]*huma.Response{"200": {Description: "The file", Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}}
	})
}

func restoreOperation() huma.Operation {
	return op("POST", "/v1/snapshot/restore", tagServer, "restore-snapshot", "Replace the control plane's state by a saved one", func(o *huma.Operation) {
		o.Description = "The body is a file of GET /v1/snapshot. Servers, keys and tokens of this cluster stay; everything else becomes what the file holds. A cluster that has jobs or datasets refuses without ?force=true."
		o.Parameters = []*huma.Param{{Name: "force", In: "query", Description: "true: throw away the jobs and datasets that are there", Schema: &huma.Schema{Type: "string"}}}
		o.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	})
}

func (s *Server) snapshotRoutes() {
	if s.Snapshots == nil {
		return
	}
	raw(s, api.RoleAdmin, snapshotOperation(), s.saveSnapshot)
	raw(s, api.RoleAdmin, restoreOperation(), s.restoreSnapshot)
}

func (s *Server) saveSnapshot(w http.ResponseWriter, r *http.Request) error {
	if err := s.fresh(r.Context(), readParams{}); err != nil {
		return err
	}
	view, term := s.Snapshots.Snapshot()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="tunemesh-%d.snapshot"`, view.Index()))
	out, err := snapshot.NewWriter(w, snapshot.Header{
		Index: view.Index(), Term: term, TakenAt: s.Clock().UTC(), Server: s.Snapshots.ID(), Program: s.Version.Version, NotIncluded: notIncluded,
	})
	if err == nil {
		err = view.WriteSnapshot(out)
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		// The status is sent. Without its trailer the file counts as damaged.
		s.Log.Warn("a snapshot was not sent whole", "err", err)
	}
	return nil
}

func (s *Server) restoreSnapshot(w http.ResponseWriter, r *http.Request) error {
	force, _ := strconv.ParseBool(r.URL.Query().Get("force"))
	if s.Store.At().Used() && !force {
		p := problem(http.StatusConflict, api.ProblemConflict, "this cluster has jobs or datasets, which a restore would throw away")
		p.Hint = "restore into a new cluster; or repeat with --force"
		return p
	}
	rc := http.NewResponseController(w)
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	in, err := snapshot.NewReader(&patientReader{r: http.MaxBytesReader(w, r.Body, maxSnapshot), rc: rc})
	if err != nil {
		return badSnapshot(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), restoreTime)
	defer cancel()
	s.Log.Warn("the state is about to be replaced by a snapshot's", "by", auth.Caller(r.Context()).Name, "index", in.Header().Index, "force", force)
	// The state is read to its end, checksum included, before it is put in place.
	if err := s.Snapshots.Restore(ctx, in); err != nil {
		if errors.Is(err, snapshot.ErrDamaged) || errors.Is(err, snapshot.ErrFormat) {
			return badSnapshot(err)
		}
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func badSnapshot(err error) error {
	return problem(http.StatusUnprocessableEntity, api.ProblemInvalid, "%v", err)
}
