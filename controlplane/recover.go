package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/controlplane/trust"
)

// Lost is one server of a cluster that lost its quorum, as the data folder of a
// server that is left knows it.
type Lost struct {
	api.Server
	Voter bool
	// Answers: this very server runs. Then there is nothing to recover from.
	Answers bool
}

// Recovery is what Recover finds and does.
type Recovery struct {
	// Self is the server whose folder it is; Others are the rest of its cluster.
	Self   Lost
	Others []Lost
	// Last and Term are of the newest entry here.
	Last, Term uint64
	Jobs       int // that have not ended
	Datasets   int
	Attempts   int // that may run on agents
	// Backup is where the old Raft folder was copied to, and Index the one from
	// which the cluster goes on; empty where nothing was done.
	Backup string
	Index  uint64
}

// Recover makes the server with a data folder the only voter of its cluster, with
// the state that it has. It is for when a quorum of servers is gone for good; the
// server must not run, and none of the others may answer. The Raft folder is
// copied aside first. With do false it only says what it finds.
func Recover(ctx context.Context, dir string, do bool, now time.Time) (out Recovery, err error) {
	id, err := readPrivate(filepath.Join(dir, "server.id"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return out, fmt.Errorf("controlplane: %s is no server's data folder: it has no file server.id", dir)
		}
		return out, err
	}
	raft := filepath.Join(dir, "raft")
	left, err := consensus.OpenRemains(raft, id, slog.New(slog.DiscardHandler))
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, left.Close()) }()
	out, err = found(left)
	if err != nil {
		return out, err
	}
	calls, err := asPeer(dir)
	if err != nil {
		return out, err
	}
	defer calls.close()
	out.ask(ctx, calls)
	for _, o := range out.Others {
		if o.Answers {
			return out, conflict("look at `tunemesh cluster peers`; stop that server for good first if it cannot be used", "server %s answers at %s: a cluster of which more than this server is there must not be recovered from one disk", o.Name, o.URL)
		}
	}
	if !do {
		return out, nil
	}
	out.Backup = raft + ".before-recover-" + now.UTC().Format("20060102T150405Z")
	if err := copyFolder(raft, out.Backup); err != nil {
		return out, fmt.Errorf("controlplane: copy the Raft folder aside: %w", err)
	}
	if err := left.Recover(); err != nil {
		return out, err
	}
	out.Index = left.Last
	return out, nil
}

// found says what is on the disk.
func found(left *consensus.Remains) (Recovery, error) {
	out := Recovery{Last: left.Last, Term: left.Term, Datasets: len(left.State.Datasets())}
	self, ok := left.Self()
	if !ok {
		return out, conflict("recover from the folder of a server that is a member", "server %s is no member of the cluster whose log it has: it was removed from it", left.ID)
	}
	for _, m := range left.Members {
		l := Lost{Server: api.Server{ID: m.ID, RaftAddress: m.Address}, Voter: m.Voter}
		if known, err := left.State.Server(m.ID); err == nil {
			l.Name, l.URL, l.Version, l.Protocol = known.Name, known.HTTPAddress, known.Version, known.Protocol
		}
		if m.ID == left.ID {
			out.Self = l
			continue
		}
		out.Others = append(out.Others, l)
	}
	if self.Voter && len(out.Others) == 0 {
		return out, conflict("just start it", "server %s is the only one of its cluster: it lacks nobody", left.ID)
	}
	for _, n := range left.State.Nodes() {
		out.Attempts += len(left.State.AttemptsOnNode(n.ID))
	}
	jobs, err := left.State.Jobs(state.JobFilter{}, 0)
	for _, j := range jobs {
		if !j.State.Terminal() {
			out.Jobs++
		}
	}
	return out, err
}

// ask looks which of the others answer.
func (r *Recovery) ask(ctx context.Context, calls *peers) {
	var asking sync.WaitGroup
	for i := range r.Others {
		o := &r.Others[i]
		if o.URL == "" {
			continue
		}
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, lookTime)
			defer cancel()
			var reply api.HelloReply
			// Another server may have taken its address; it has another id.
			err := calls.call(ctx, http.MethodPost, o.URL, "/v1/cluster/hello", api.ServerHello{Server: r.Self.Server, HasState: true}, &reply)
			o.Answers = err == nil && reply.ID == o.ID
		})
	}
	asking.Wait()
}

// asPeer makes calls to other servers with what a data folder has.
func asPeer(dir string) (*peers, error) {
	c := &credentials{dir: dir}
	if err := c.findSecret("", false); err != nil {
		return nil, err
	}
	if _, err := c.load(); err != nil {
		return nil, err
	}
	if c.secret != nil {
		ring, err := c.secret.Keyring()
		if err != nil {
			return nil, err
		}
		c.peer = ring.Peer
	}
	if c.caCert == nil {
		return newPeers(nil, func() string { return c.peer }), nil
	}
	identity, err := trust.NewIdentity(c.caCert, nil)
	if err != nil {
		return nil, err
	}
	return newPeers(identity.Dialing(), func() string { return c.peer }), nil
}

// copyFolder copies files, each on disk when it returns, for this user alone: the
// state has the cluster's keys.
func copyFolder(from, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	return filepath.WalkDir(to, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
