// Package s3test starts the real embedded object store for tests: the test
// binary runs itself again as the store's process.
package s3test

import (
	"context"
	"log/slog"
	"os"
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
	return m.Run()
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
	s, err := artifacts.Open(ctx, e.Config())
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	t.Cleanup(s.Close)
	return s, e
}
