package consensus

import (
	"context"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/failpoint"
)

// fsm gives committed entries to the state.
type fsm struct {
	store    *state.Store
	fatal    func(error)
	progress progress
	// broken is the fault after which no entry may be applied.
	broken error
}

type applied struct {
	result state.Result
	fault  error
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any {
	if f.broken != nil {
		return applied{fault: f.broken}
	}
	_ = failpoint.At(failpoint.EntryUnapplied)
	result, err := f.store.Apply(l.Index, l.Data)
	if err != nil {
		f.broken = err
		f.fatal(err)
		return applied{fault: err}
	}
	_ = failpoint.At(failpoint.EntryUnseen)
	f.progress.reach(l.Index)
	return applied{result: result}
}

// StoreConfiguration implements raft.ConfigurationStore, to count entries that
// change the membership as applied.
func (f *fsm) StoreConfiguration(index uint64, _ raft.Configuration) { f.progress.reach(index) }

// Snapshot implements raft.FSM: a pointer to the state as it is now.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return snapshot{f.store.At()}, nil }

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer func() { _ = r.Close() }()
	if err := f.store.Restore(r); err != nil {
		return err
	}
	_ = failpoint.At(failpoint.RestoreUnseen)
	f.progress.reach(f.store.Index())
	return nil
}

type snapshot struct{ view state.View }

// Persist implements raft.FSMSnapshot.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	err := s.view.WriteSnapshot(sink)
	if err == nil {
		err = failpoint.At(failpoint.SnapshotUnnamed)
	}
	if err != nil {
		_ = sink.Cancel()
		return err
	}
	if err := sink.Close(); err != nil {
		return err
	}
	return failpoint.At(failpoint.LogUntrimmed)
}

// Release implements raft.FSMSnapshot.
func (snapshot) Release() {}

// progress is the highest index known to be applied. Raft's own AppliedIndex
// will not do: it counts entries that were handed over, not those done.
type progress struct {
	mu    sync.Mutex
	index uint64
	// moved is closed when index grows; nil while nobody waits.
	moved chan struct{}
}

func (p *progress) reach(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index <= p.index {
		return
	}
	p.index = index
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

func (p *progress) at() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index
}

func (p *progress) wait(ctx context.Context, index uint64) error {
	for {
		p.mu.Lock()
		if p.index >= index {
			p.mu.Unlock()
			return nil
		}
		if p.moved == nil {
			p.moved = make(chan struct{})
		}
		moved := p.moved
		p.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
