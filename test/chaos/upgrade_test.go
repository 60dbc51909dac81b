//go:build linux

package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// builds returns two programs: TUNEMESH_CHAOS_BINARY and TUNEMESH_CHAOS_NEXT, or
// what this repository was before it spoke today's protocol version, and what it
// is. Without the history the same source is built twice.
func builds(t *testing.T) (old, next string) {
	t.Helper()
	if next = os.Getenv("TUNEMESH_CHAOS_NEXT"); next != "" {
		return builtBinary, next
	}
	dir := t.TempDir()
	old = filepath.Join(dir, "tunemesh-old")
	source, err := before(dir, api.ProtocolVersion)
	if err != nil {
		t.Logf("the servers are replaced by the same source: %v", err)
	}
	if err := buildBinary(source, old, "chaos-old"); err != nil {
		t.Fatal(err)
	}
	return old, builtBinary
}

// before unpacks the last commit that did not speak a protocol version yet. An
// error comes with the folder of what there is instead.
func before(dir string, version int) (source string, err error) {
	git := func(args ...string) ([]byte, error) {
		cmd := exec.Command("git", args...)
		cmd.Dir = sourceDir()
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("git %s: %w", args[0], err)
		}
		return out, err
	}
	found, err := git("log", "--format=%H", fmt.Sprintf("-Sconst ProtocolVersion = %d\n", version), "--", "api/doc.go")
	commits := strings.Fields(string(found))
	if err == nil && len(commits) == 0 {
		err = fmt.Errorf("no commit began to speak protocol version %d", version)
	}
	var packed []byte
	if err == nil {
		packed, err = git("archive", commits[len(commits)-1]+"~")
	}
	source = filepath.Join(dir, "source")
	if err == nil {
		err = os.Mkdir(source, 0o755)
	}
	if err == nil {
		unpack := exec.Command("tar", "-x", "-C", source)
		unpack.Stdin = bytes.NewReader(packed)
		err = unpack.Run()
	}
	if err != nil {
		return sourceDir(), err
	}
	return source, nil
}

// T12: servers and agents are replaced one after another by another build, under
// load: nothing is lost and trainers run on through it. As long as one server
// speaks the old protocol version the others may go back to it; agents may always.
// When all speak the new one a server that goes back may stop, and says why.
func TestARollingUpgrade(t *testing.T) {
	needsMesh(t)
	t.Parallel()
	old, next := builds(t)
	m := start(t, shape{servers: 3, agents: 2, binary: old})
	w := newWorkload(m, 1)
	if err := w.begin(3); err != nil {
		t.Fatal(err)
	}
	if err := m.eventually(30*time.Second, func() error {
		if len(m.trainers()) < 2 {
			return errors.New("no stage runs")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	servers, agents := m.servers, m.agents
	before := m.protocol(t)
	m.roll(t, next, servers[:2]...)
	m.roll(t, old, servers[1], servers[0])
	m.roll(t, next, append(append([]*member(nil), servers...), agents...)...)
	m.roll(t, old, agents...)
	m.roll(t, next, agents...)
	if after := m.protocol(t); after > before {
		m.goesBack(t, servers[2], old, next)
	} else {
		m.roll(t, old, servers...)
		m.roll(t, next, servers...)
	}
	w.paused.Store(true)
	rep := w.checked(t, "")
	if rep.lost > 0 {
		t.Errorf("%d attempts were lost in a rolling upgrade", rep.lost)
	}
	for _, f := range newStorm(w).equalStates() {
		t.Error(f)
	}
	t.Logf("from protocol version %d to %d", before, m.protocol(t))
}

// protocol is what the first server speaks.
func (m *mesh) protocol(t *testing.T) int {
	t.Helper()
	v, err := m.client(m.servers[0].url).Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v.Protocol
}

// roll replaces one member after another, each when the one before is back.
func (m *mesh) roll(t *testing.T, binary string, members ...*member) {
	t.Helper()
	for _, s := range members {
		held := 0
		for _, text := range m.trainers() {
			if strings.HasPrefix(text, s.name+":") && strings.Contains(text, " shim ") {
				held++
			}
		}
		s.restart(append([]string{binary}, s.argv[1:]...))
		if s.url != "" {
			if err := m.awaitReady(60*time.Second, s); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if held > 0 {
			t.Logf("%s was replaced while it held %d stages", s.name, held)
		}
		if err := m.eventually(20*time.Second, func() error {
			if m.scrape(t.Context(), s) == nil {
				return fmt.Errorf("%s does not answer yet", s.name)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// goesBack puts a server back to the older program once all of the mesh speaks the
// newer version. It goes on as long as it meets nothing newer; with the first such
// entry it stops and says why. It harms nobody, and the newer program takes its
// place again.
func (m *mesh) goesBack(t *testing.T, s *member, old, next string) {
	t.Helper()
	before, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	s.restart(append([]string{old}, s.argv[1:]...))
	if err := m.eventually(60*time.Second, func() error {
		if m.ready(s) == nil {
			return nil
		}
		log, err := os.ReadFile(s.log)
		if err == nil && !bytes.Contains(log[len(before):], []byte("run the newer program")) {
			err = fmt.Errorf("%s goes back to the older protocol, is not ready, and does not say why", s.name)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	t.Logf("%s, put back to the older protocol, is ready: %t", s.name, m.ready(s) == nil)
	s.replace(append([]string{next}, s.argv[1:]...))
	s.kill(100 * time.Millisecond) // should the old one still run
	if err := m.awaitReady(60*time.Second, m.servers...); err != nil {
		t.Fatal(err)
	}
}
