//go:build linux

package nodeagent_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/transfer"
)

// largeSize is a file of five parts in bytes, the last of them short.
const largeSize = transfer.PartsFrom + 4<<20

// makeLarge is a stage that makes such a file, no two parts of it alike.
const makeLarge = `seq 1 20000000 | head -c 71303168 > ../out/large; echo small > ../out/small
printf '{"status":"success","artifacts":{"large":"large","small":"small"}}' > "$TUNEMESH_RESULT"`

// wantLarge checks that the store has the file as the report says.
func wantLarge(t *testing.T, p *plane, fence uint64) {
	t.Helper()
	r := p.ended(fence)
	if r.State != api.AttemptSucceeded || len(r.Artifacts) != 2 {
		t.Fatalf("report %+v %+v", r, r.Error)
	}
	for _, a := range r.Artifacts {
		data := p.object(a.Key)
		if int64(len(data)) != a.Size || p.put("copy", []byte(data)).SHA256 != a.SHA256 {
			t.Errorf("%s has %d bytes in the store, reported were %d", a.Name, len(data), a.Size)
		}
	}
	if r.Artifacts[0].Size != largeSize {
		t.Errorf("the large file has %d bytes, want %d", r.Artifacts[0].Size, largeSize)
	}
}

func TestAKilledAgentsUploadGoesOnWithTheMissingParts(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	srv := httptest.NewServer(p.handler())
	defer srv.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := func() *exec.Cmd {
		cmd := exec.Command(exe, "agent", dir, srv.URL)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	kill := func(cmd *exec.Cmd) { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	p.partsLeft = 3
	p.assign(shell(60, makeLarge))
	agent := start()
	p.until("three of five parts are stored", func() bool { return p.partPuts == 3 })
	kill(agent)
	p.mu.Lock()
	p.partsLeft = 0
	p.mu.Unlock()
	agent = start()
	defer func() { kill(agent) }()
	wantLarge(t, p, 60)
	if p.partPuts != 5 {
		t.Errorf("%d parts were sent in all, want each of the 5 once", p.partPuts)
	}
	if len(p.uploads) != 1 {
		t.Errorf("%d uploads were begun, want one that went on", len(p.uploads))
	}
	srv.CloseClientConnections()
}

func TestAnOlderControlPlaneGetsALargeFileInOnePut(t *testing.T) {
	p := newPlane(t)
	p.noParts = true
	p.assign(shell(61, makeLarge))
	run(t, p, config(t.TempDir()))
	wantLarge(t, p, 61)
}

// The control plane looks into the store before it believes a report.
func TestFilesThatTheStoreLostAreSentAgain(t *testing.T) {
	p := newPlane(t)
	p.losing = 4
	p.assign(shell(62, `echo 1 > ../out/a; printf '{"status":"success","artifacts":{"a":"a"}}' > "$TUNEMESH_RESULT"`))
	run(t, p, config(t.TempDir()))
	if r := p.ended(62); r.State != api.AttemptSucceeded || len(r.Artifacts) != 1 || p.object(r.Artifacts[0].Key) != "1\n" {
		t.Errorf("report %+v %+v", r, r.Error)
	}
}

func TestATransferThatStallsIsBegunAgain(t *testing.T) {
	p := newPlane(t)
	input := p.put("input", []byte("words"))
	as := shell(63, `cp ../in/source/input ../out/a; printf '{"status":"success","artifacts":{"a":"a"}}' > "$TUNEMESH_RESULT"`)
	input.Name = "input"
	as.Inputs = []api.StageArtifact{{Stage: "source", Artifact: input}}
	p.stalls = map[string]int{http.MethodGet: 1, http.MethodPut: 1}
	p.assign(as)
	c := config(t.TempDir())
	c.StallTimeout = 50 * time.Millisecond
	run(t, p, c)
	if r := p.ended(63); r.State != api.AttemptSucceeded || p.object(r.Artifacts[0].Key) != "words" {
		t.Errorf("report %+v %+v", r, r.Error)
	}
}
