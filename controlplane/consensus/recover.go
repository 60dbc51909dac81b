package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/tunemesh/tunemesh/controlplane/state"
)

// Remains is what a server that does not run has on its disk of its cluster: its
// log is locked until Close, so that no server can be started on it meanwhile.
type Remains struct {
	// Members are the servers of the newest configuration that this one knows, ID
	// is its own.
	Members []Member
	ID      string
	// Last and Term are those of its newest entry. Of several servers that are
	// left the one with the higher term, then the higher index, has more.
	Last, Term uint64
	// State is what it holds with all its entries applied, also those of which it
	// never heard whether a quorum had them.
	State *state.Store

	dir       string
	log       *boltStore
	snapshots raft.SnapshotStore
}

// OpenRemains reads the directory of a server that does not run.
func OpenRemains(dir, id string, log *slog.Logger) (r *Remains, err error) {
	there, err := HasState(dir)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, fmt.Errorf("consensus: there is no log and no snapshot in %s", dir)
	}
	r = &Remains{dir: dir, ID: id}
	if r.log, err = openBolt(filepath.Join(dir, "raft.db")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.log.Close())
			r = nil
		}
	}()
	if r.snapshots, err = raft.NewFileSnapshotStoreWithLogger(dir, 2, bridge(log)); err != nil {
		return r, fmt.Errorf("consensus: snapshots in %s: %w", dir, err)
	}
	if r.State, err = state.New(); err != nil {
		return r, err
	}
	if err := r.readSnapshot(); err != nil {
		return r, err
	}
	return r, r.replay()
}

// readSnapshot starts from the newest snapshot, if there is one.
func (r *Remains) readSnapshot() error {
	list, err := r.snapshots.List()
	if err != nil {
		return fmt.Errorf("consensus: snapshots in %s: %w", r.dir, err)
	}
	if len(list) == 0 {
		return nil
	}
	meta, content, err := r.snapshots.Open(list[0].ID)
	if err != nil {
		return fmt.Errorf("consensus: open snapshot %s: %w", list[0].ID, err)
	}
	defer func() { _ = content.Close() }()
	if err := r.State.Restore(content); err != nil {
		return fmt.Errorf("consensus: snapshot %s: %w", list[0].ID, err)
	}
	r.Last, r.Term = meta.Index, meta.Term
	r.take(meta.Configuration)
	return nil
}

// replay applies what the log has beyond the snapshot.
func (r *Remains) replay() error {
	last, err := r.log.LastIndex()
	if err != nil {
		return fmt.Errorf("consensus: read the log in %s: %w", r.dir, err)
	}
	for index := r.Last + 1; index <= last; index++ {
		var entry raft.Log
		if err := r.log.GetLog(index, &entry); err != nil {
			return fmt.Errorf("consensus: entry %d of the log in %s: %w", index, r.dir, err)
		}
		switch entry.Type {
		case raft.LogCommand:
			if _, err := r.State.Apply(index, entry.Data); err != nil {
				return fmt.Errorf("consensus: entry %d: %w", index, err)
			}
		case raft.LogConfiguration:
			r.take(raft.DecodeConfiguration(entry.Data))
		}
		r.Last, r.Term = index, entry.Term
	}
	return nil
}

func (r *Remains) take(c raft.Configuration) {
	r.Members = nil
	for _, s := range c.Servers {
		r.Members = append(r.Members, Member{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
}

// Self is this server's own place, false where it has none.
func (r *Remains) Self() (Member, bool) {
	i := slices.IndexFunc(r.Members, func(m Member) bool { return m.ID == r.ID })
	if i < 0 {
		return Member{}, false
	}
	return r.Members[i], true
}

// Recover makes this server the only voter of the cluster, with the state that it
// has, for when a quorum of the others is gone for good. The index jumps as with
// a restored backup: the others may have acknowledged entries, and given out
// their indices as fences, of which this one never heard.
//
// raft.RecoverCluster will not do: it keeps the index. A crash between the new
// snapshot and the end of the old log does no harm: the log is older than it.
func (r *Remains) Recover() error {
	self, ok := r.Self()
	if !ok {
		return fmt.Errorf("consensus: server %s is no member of the cluster whose log it has: it was removed", r.ID)
	}
	index := max(r.State.Index(), r.Last) + indexGap
	if err := r.State.Graft(r.State.At(), index); err != nil {
		return fmt.Errorf("consensus: recover: %w", err)
	}
	configuration := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(self.ID), Address: raft.ServerAddress(self.Address)}}}
	_, transport := raft.NewInmemTransport(raft.ServerAddress(self.Address))
	defer func() { _ = transport.Close() }()
	sink, err := r.snapshots.Create(raft.SnapshotVersionMax, index, r.Term, configuration, index, transport)
	if err != nil {
		return fmt.Errorf("consensus: recover: %w", err)
	}
	if err := (snapshot{r.State.At()}).Persist(sink); err != nil {
		return fmt.Errorf("consensus: recover: write the snapshot: %w", err)
	}
	first, err := r.log.FirstIndex()
	if err != nil {
		return fmt.Errorf("consensus: recover: %w", err)
	}
	last, err := r.log.LastIndex()
	if err == nil && last > 0 {
		err = r.log.DeleteRange(first, last)
	}
	if err != nil {
		return fmt.Errorf("consensus: recover: end the old log: %w", err)
	}
	r.Last = index
	return nil
}

// Close lets go of the directory.
func (r *Remains) Close() error { return r.log.Close() }
