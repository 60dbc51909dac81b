package state

import (
	"context"
	"sync"

	"github.com/hashicorp/go-memdb"
)

// Watch waits for changes. Take it before the read that it guards: a change
// between the two then wakes it at once.
type Watch struct {
	set memdb.WatchSet
}

// Topic is a part of the state that can be watched.
type Topic int

// Topics.
const (
	TopicReady       Topic = iota // stages that became ready or stopped being it
	TopicNodes                    // nodes: capability, drain, labels
	TopicAttempts                 // live attempts: placed, changed, ended
	TopicTransitions              // transitions: added, trimmed
	TopicUnpublished              // stages to publish
	TopicServers                  // servers of the control plane
	TopicIndex                    // everything: each applied entry
)

// Watch watches topics.
func (s *Store) Watch(topics ...Topic) Watch {
	w := Watch{set: memdb.NewWatchSet()}
	txn := s.db.Txn(false)
	for _, t := range topics {
		w.set.Add(topicChannel(txn, t))
	}
	return w
}

func topicChannel(txn *memdb.Txn, t Topic) <-chan struct{} {
	var it memdb.ResultIterator
	var err error
	switch t {
	case TopicReady:
		it, err = txn.Get(tableStages, "ready", "ready")
	case TopicNodes:
		it, err = txn.Get(tableNodes, "id_prefix")
	case TopicAttempts:
		it, err = txn.Get(tableAttempts, "live_prefix")
	case TopicTransitions:
		it, err = txn.Get(tableTransitions, "id_prefix")
	case TopicUnpublished:
		it, err = txn.Get(tableStages, "unpublished", "unpublished")
	case TopicServers:
		it, err = txn.Get(tableServers, "id_prefix")
	case TopicIndex:
		it, err = txn.Get(tableMeta, "id", metaIndex)
	}
	if err != nil || it == nil {
		return nil
	}
	return it.WatchCh()
}

// Add lets the watch wake for another channel too.
func (w Watch) Add(ch <-chan struct{}) { w.set.Add(ch) }

// Wait returns nil after a change, or the context's error.
func (w Watch) Wait(ctx context.Context) error { return w.set.WatchCtx(ctx) }

// Chan is Wait as a channel. It holds a goroutine until ctx ends or the watch
// wakes.
func (w Watch) Chan(ctx context.Context) <-chan error { return w.set.WatchCh(ctx) }

// WatchNode returns a channel that closes when a node's desired set changes
// next. Take it before reading Desired.
func (s *Store) WatchNode(nodeID string) <-chan struct{} { return s.nodes.hear(nodeID) }

// bells wakes by name. The database's own watches will not do here: that of a
// row which is not there yet is its parent's in the tree, so that the first
// attempt of each of 10,000 nodes would wake the polls of all others.
type bells struct {
	mu    sync.Mutex
	place map[string]int
	chans []chan struct{} // nil: nobody waits
}

func (b *bells) hear(name string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, ok := b.place[name]
	if !ok {
		if b.place == nil {
			b.place = map[string]int{}
		}
		i = len(b.chans)
		b.place[name], b.chans = i, append(b.chans, nil)
	}
	if b.chans[i] == nil {
		b.chans[i] = make(chan struct{})
	}
	return b.chans[i]
}

func (b *bells) ring(names []string) {
	if len(names) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range names {
		if i, ok := b.place[name]; ok {
			b.wake(i)
		}
	}
}

func (b *bells) ringAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.chans {
		b.wake(i)
	}
}

func (b *bells) wake(i int) {
	if b.chans[i] != nil {
		close(b.chans[i])
		b.chans[i] = nil
	}
}

// WatchJob returns a channel that closes when a job or one of its stages
// changes next. Take it before reading.
func (s *Store) WatchJob(jobID string) <-chan struct{} {
	it, err := s.db.Txn(false).Get(tableTransitions, "id_prefix", jobID)
	if err != nil {
		return nil
	}
	return it.WatchCh()
}

// WaitIndex returns once the state holds the entry with an index.
func (s *Store) WaitIndex(ctx context.Context, index uint64) error {
	for {
		w := s.Watch(TopicIndex)
		if s.Index() >= index {
			return nil
		}
		if err := w.Wait(ctx); err != nil {
			return err
		}
	}
}
