//go:build linux

package chaos

import (
	"context"
	"time"

	"github.com/tunemesh/tunemesh/test/invariant"
)

// ask sends one request to one server from the client's host.
func (m *mesh) ask(ctx context.Context, token, server, method, path string, body any, limit time.Duration) invariant.Answer {
	return invariant.Ask(ctx, m.http, token, server, method, path, body, limit)
}

// follow starts two readers of a job that must read the same.
func (w *workload) follow(ctx context.Context, p *planned) {
	for _, name := range []string{p.id + "/1", p.id + "/2"} {
		r := invariant.NewReader(p.id)
		w.mu.Lock()
		w.readers[name] = r
		first := len(w.readers)
		w.mu.Unlock()
		w.running.Go(func() { r.Follow(ctx, w.mesh.http, w.mesh.urls(), first, w.token) })
	}
}

// eventFaults checks what the two readers of every job got.
func (w *workload) eventFaults() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var faults []string
	for _, id := range w.order {
		if a, b := w.readers[id+"/1"], w.readers[id+"/2"]; a != nil && b != nil {
			faults = append(faults, invariant.EventFaults(a, b)...)
		}
	}
	return faults
}
