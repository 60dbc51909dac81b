// Package s3test starts the real embedded object store for tests: the test
// binary runs itself again as the store's process.
package s3test

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"

	"github.com/tunemesh/tunemesh/controlplane/artifacts"
)

// childArgument tells a test binary that it is the store's process.
const childArgument = "tunemesh-s3-child"

// Main is for TestMain: in the store's process it never returns, else it runs
// the tests and returns their exit code.
func Main(m *testing.M) int {
	if len(os.Args) == 2 && os.Args[1] == childArgument {
		os.Exit(artifacts.RunChild(nil))
	}
	defer shared.close()
	return m.Run()
}

// once is the store that tests of a binary share; starting one takes a second
// under the race detector.
type once struct {
	sync.Mutex
	dir      string
	embedded *artifacts.Embedded
}

var shared once

func (o *once) start() (e *artifacts.Embedded, err error) {
	o.Lock()
	defer o.Unlock()
	if o.embedded != nil {
		return o.embedded, nil
	}
	if o.dir, err = os.MkdirTemp("", "s3test-"); err != nil {
		return nil, err
	}
	o.embedded, err = artifacts.StartEmbedded(context.Background(), artifacts.EmbeddedConfig{Dir: o.dir, Command: Command(), Log: slog.New(slog.DiscardHandler)})
	return o.embedded, err
}

func (o *once) close() {
	o.Lock()
	defer o.Unlock()
	if o.embedded != nil {
		_ = o.embedded.Close()
	}
	if o.dir != "" {
		_ = os.RemoveAll(o.dir)
	}
}

// Shared returns a store that all tests of the binary share. It is ended by
// Main, and holds what earlier tests left.
func Shared(t testing.TB) (*artifacts.Store, *artifacts.Embedded) {
	t.Helper()
	e, err := shared.start()
	if err != nil {
		t.Fatalf("start embedded store: %v", err)
	}
	return open(t, e), e
}

// Command starts this binary as the store's process.
func Command() []string { return []string{os.Args[0], childArgument} }

// Start starts a store in a folder of the test's own and ends it with the test.
func Start(t testing.TB) (*artifacts.Store, *artifacts.Embedded) {
	t.Helper()
	return StartIn(t, t.TempDir())
}

// StartIn is Start in a given folder.
func StartIn(t testing.TB, dir string) (*artifacts.Store, *artifacts.Embedded) {
	t.Helper()
	ctx := context.Background()
	e, err := artifacts.StartEmbedded(ctx, artifacts.EmbeddedConfig{Dir: dir, Command: Command(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("start embedded store: %v", err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return open(t, e), e
}

func open(t testing.TB, e *artifacts.Embedded) *artifacts.Store {
	t.Helper()
	s, err := artifacts.Open(context.Background(), e.Config())
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}
