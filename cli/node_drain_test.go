package cli_test

import (
	"context"
	"net"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli"
)

// drainingMesh is a mesh whose node is in another state at each look.
type drainingMesh struct {
	*fakeMesh
	looks []func(*api.Node) error
	undo  []bool // what DrainNode was told
}

func (m *drainingMesh) Node(ctx context.Context, id string) (api.Node, error) {
	n, err := m.fakeMesh.Node(ctx, id)
	if err != nil || len(m.undo) == 0 { // only the search for the name
		return n, err
	}
	n.Drain = true
	if len(m.looks) > 0 {
		err = m.looks[0](&n)
		m.looks = m.looks[1:]
	}
	return n, err
}

func (m *drainingMesh) DrainNode(ctx context.Context, id string, drain bool) (api.Node, error) {
	m.undo = append(m.undo, !drain)
	return m.fakeMesh.DrainNode(ctx, id, drain)
}

func runs(n int) func(*api.Node) error { return func(k *api.Node) error { k.Running = n; return nil } }

func TestDrainWaitsUntilTheNodeRunsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(*api.Node) error {
			return &url.Error{Op: "Get", URL: "http://mesh.test", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
		}
		m := &drainingMesh{fakeMesh: demoMesh(), looks: []func(*api.Node) error{runs(2), runs(2), silent, silent, runs(1), runs(0)}}
		start := time.Now()
		r := cmdline{t: t, mesh: m}.run("node", "drain", "ws-anna", "--wait")
		if r.code != 0 || r.out != "n-5f0c2b9a7e31 (ws-anna) runs nothing and gets no new attempts.\n" {
			t.Errorf("%d %s %s", r.code, r.out, r.err)
		}
		const who = "n-5f0c2b9a7e31 (ws-anna) drains; still running there: "
		want := []string{who + "1 attempt", who + "2 attempts", "the mesh does not answer; waiting for it", who + "1 attempt"}
		if got := strings.Split(strings.TrimSpace(r.err), "\n"); !slices.Equal(got, want) {
			t.Errorf("progress:\n%s", r.err)
		}
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("six looks took %s", took)
		}
	})
}

func TestDrainSaysThatTheNodeGoesOnDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &drainingMesh{fakeMesh: demoMesh()}
		r := cmdline{t: t, mesh: m}.run("node", "drain", "ws-anna", "--wait", "--timeout", "90s")
		if r.code != cli.ExitJobFailed || !strings.Contains(r.err, "the time is over") || !strings.Contains(r.err, "goes on draining") {
			t.Errorf("%d %s", r.code, r.err)
		}
		if n := strings.Count(r.err, "still running there"); n < 3 || n > 4 {
			t.Errorf("in 90 s a wait that sees nothing change says so %d times:\n%s", n, r.err)
		}

		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, interrupt) // as Ctrl-C does
		m = &drainingMesh{fakeMesh: demoMesh()}
		r = cmdline{t: t, mesh: m, ctx: ctx}.run("node", "drain", "ws-anna", "--wait")
		if r.code != cli.ExitInterrupted || !strings.Contains(r.err, "goes on draining") || !strings.Contains(r.err, "--undo") {
			t.Errorf("%d %s", r.code, r.err)
		}
		if len(m.undo) != 1 || m.undo[0] {
			t.Errorf("after Ctrl-C the node was told %v: it must go on draining", m.undo)
		}
	})
}

func TestDrainEndsWhenSomebodyElseUndoesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &drainingMesh{fakeMesh: demoMesh(), looks: []func(*api.Node) error{func(n *api.Node) error { n.Drain = false; return nil }}}
		r := cmdline{t: t, mesh: m}.run("node", "drain", "ws-anna", "--wait")
		if r.code != cli.ExitRefused || !strings.Contains(r.err, "somebody") {
			t.Errorf("%d %s", r.code, r.err)
		}
	})
	for _, args := range [][]string{{"--undo", "--wait"}, {"--timeout", "1m"}, {"--wait", "--timeout", "-1s"}} {
		r := cmdline{t: t, mesh: demoMesh()}.run(append([]string{"node", "drain", "ws-anna"}, args...)...)
		if r.code != cli.ExitUsage {
			t.Errorf("%v: %d %s", args, r.code, r.err)
		}
	}
}
