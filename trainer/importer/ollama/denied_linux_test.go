package ollama_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/importer/ollama"
)

// A store of the service that its user alone may read does not hide a model that is
// elsewhere, and is named, with what to do, when it is not.
func TestAStoreThatMayNotBeRead(t *testing.T) {
	const path = "registry.ollama.ai/library/m/latest"
	open := store(t, path, layers{"model": "x"})
	if err := os.Chmod(filepath.Dir(open), 0o755); err != nil { // which the testing package keeps for its own user
		t.Fatal(err)
	}
	for _, part := range []string{"manifests", "blobs"} {
		closed := store(t, path, layers{"model": "x"})
		if err := os.Chmod(filepath.Join(closed, part), 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(filepath.Join(closed, part), 0o755) })
		asOther(func() {
			_, err := ollama.Find(context.Background(), []string{closed}, "ollama:m")
			if err == nil || !strings.Contains(err.Error(), "may not read Ollama's models in "+closed) || !strings.Contains(err.Error(), "usermod -aG ollama") {
				t.Errorf("%s: %v", part, err)
			}
			if part == "blobs" { // that store has the model
				return
			}
			if _, err := ollama.Find(context.Background(), []string{closed, open}, "ollama:m"); err != nil {
				t.Error(err)
			}
		})
	}
}

// asOther calls f as a user to whom file modes apply, for root reads everything. Only the
// thread changes; it ends with the goroutine that it is locked to.
func asOther(f func()) {
	if os.Geteuid() != 0 {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		_ = syscall.Setfsuid(65534)
		f()
	}()
	<-done
}
