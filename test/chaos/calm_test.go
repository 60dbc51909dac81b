//go:build linux

package chaos

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// binaryOnce is the program under test.
var builtBinary string

// injectedBuild: the binary takes orders to do wrong (build tag chaos).
var injectedBuild = os.Getenv("TUNEMESH_CHAOS_TAG") != ""

func TestMain(m *testing.M) {
	code := 1
	defer func() { os.Exit(code) }()
	if os.Getenv("TUNEMESH_CHAOS") == "" {
		code = m.Run()
		return
	}
	dir, err := os.MkdirTemp("", "tmchaos-bin-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	builtBinary = filepath.Join(dir, "tunemesh")
	if given := os.Getenv("TUNEMESH_CHAOS_BINARY"); given != "" {
		builtBinary = given
		sweepNamespaces()
		code = m.Run()
		return
	}
	var flags []string
	if raceBuild() {
		flags = append(flags, "-race")
	}
	if injectedBuild {
		flags = append(flags, "-tags", "chaos")
	}
	if err := buildBinary(sourceDir(), builtBinary, "chaos", flags...); err != nil {
		println(err.Error())
		return
	}
	sweepNamespaces()
	code = m.Run()
}

// needsMesh skips a test where no mesh can be made.
func needsMesh(t *testing.T) {
	t.Helper()
	if os.Getenv("TUNEMESH_CHAOS") == "" {
		t.Skip("runs whole meshes in network namespaces for minutes: set TUNEMESH_CHAOS=1, or use make test-chaos")
	}
	if why := whyNot(); why != "" {
		t.Skip(why)
	}
}

// start is a mesh for a test.
func start(t *testing.T, s shape) *mesh {
	t.Helper()
	needsMesh(t)
	dir, err := os.MkdirTemp("", "tmchaos-")
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMesh(dir, cmp.Or(s.binary, builtBinary), s, t.Logf)
	if err != nil {
		t.Fatalf("%v\nlogs are in %s", err, dir)
	}
	t.Cleanup(func() {
		m.close()
		if t.Failed() || os.Getenv("TUNEMESH_CHAOS_KEEP") != "" {
			t.Logf("logs are in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return m
}

func TestACalmMesh(t *testing.T) {
	m := start(t, shape{servers: 3, agents: 2})
	nodes, err := m.client().Nodes(t.Context())
	if err != nil || len(nodes) != 2 {
		t.Fatalf("%v %v", nodes, err)
	}
}

// run lets the workload go on for a time and checks everything.
func (w *workload) checked(t *testing.T, adapter string) report {
	t.Helper()
	if open := w.settle(4 * time.Minute); len(open) > 0 {
		t.Errorf("I2: %d jobs do not end: %s", len(open), strings.Join(open, "\n"))
	}
	time.Sleep(2 * time.Second) // readers hear the last lines
	w.end()
	r := w.verify(adapter)
	ops, unknown := w.history.Size()
	t.Logf("%s; %d operations, %d of unknown outcome", r, ops, unknown)
	for why, n := range r.deadReasons {
		t.Logf("%d x dead letter or reset: %s", n, why)
	}
	for i, f := range append(r.faults, w.history.Check(20*time.Second)...) {
		if i == 40 {
			t.Errorf("... and more")
			break
		}
		t.Error(f)
	}
	for _, p := range w.mesh.panics() {
		t.Error(p)
	}
	return r
}

func TestACalmRunOfTheWorkload(t *testing.T) {
	m := start(t, shape{servers: 3, agents: 2})
	w := newWorkload(m, 1)
	w.training = 4
	if err := w.begin(4); err != nil {
		t.Fatal(err)
	}
	time.Sleep(15 * time.Second)
	w.paused.Store(true)
	w.checked(t, "")
	if left := m.trainers(); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}
