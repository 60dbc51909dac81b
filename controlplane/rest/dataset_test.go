package rest_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/rest"
)

// lines yields n bytes of CSV without holding them.
type lines struct {
	left, row int64
	pending   []byte
}

func (l *lines) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && l.left > 0 {
		if len(l.pending) == 0 {
			l.row++
			l.pending = strconv.AppendInt(nil, l.row, 10)
			l.pending = append(l.pending, ",the quick brown fox jumps over the lazy dog,label\n"...)
		}
		k := copy(p[n:], l.pending)
		k = int(min(int64(k), l.left))
		l.pending = l.pending[k:]
		l.left -= int64(k)
		n += k
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// peakHeap watches the heap until it is told to stop, and returns its peak.
func peakHeap() (stop func() uint64) {
	done := make(chan struct{})
	peak := make(chan uint64)
	go func() {
		var most uint64
		var m runtime.MemStats
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse)
			case <-done:
				peak <- most
				return
			}
		}
	}()
	return func() uint64 { close(done); return <-peak }
}

func TestAnUploadNeedsMemoryForOnePartOnly(t *testing.T) {
	m := newMesh(t)
	const size = 64 << 20
	for _, declared := range []int64{size, -1} {
		sum := sha256.New()
		stop := peakHeap()
		d, err := m.client(api.RoleUser).UploadDataset(t.Context(), "big.csv", io.TeeReader(&lines{left: size}, sum), declared)
		heap := stop()
		if err != nil {
			t.Fatal(err)
		}
		want := hex.EncodeToString(sum.Sum(nil))
		if d.SHA256 != want || d.Size != size || d.ID != "ds_"+want[:16] || d.Name != "big.csv" || d.CreatedBy != "user" {
			t.Errorf("dataset %+v, want hash %s", d, want)
		}
		// 16 MiB of part, twice for what the collector has not taken yet, and
		// everything else of the process.
		if heap > 64<<20 {
			t.Errorf("declared %d: the heap reached %d MiB", declared, heap>>20)
		}
		t.Logf("declared %d: peak heap %d MiB", declared, heap>>20)
	}
	listed, err := m.client(api.RoleViewer).Datasets(t.Context())
	if err != nil || len(listed) != 1 {
		t.Errorf("%d datasets, %v", len(listed), err)
	}
}

func TestBadUploads(t *testing.T) {
	m := newMesh(t, func(c *rest.Config) { c.MaxDatasetBytes = 1000 })
	user := m.client(api.RoleUser)
	try := func(name string, size int, declared int64) (int, []string) {
		_, err := user.UploadDataset(t.Context(), name, strings.NewReader(strings.Repeat("x", size)), declared)
		var p *api.Problem
		if !errors.As(err, &p) {
			t.Fatalf("%q: %v", name, err)
		}
		var fields []string
		for _, f := range p.Errors {
			fields = append(fields, f.Field)
		}
		return p.Status, fields
	}
	for _, c := range []struct {
		name     string
		size     int
		declared int64
		status   int
		fields   []string
	}{
		{"", 10, 10, 422, []string{"name"}},
		{"a/b.csv", 10, 10, 422, []string{"name"}},
		{"a\x00.csv", 10, 10, 422, []string{"name"}},
		{strings.Repeat("n", 300), 10, 10, 422, []string{"name"}},
		{"empty.csv", 0, 0, 422, []string{"body"}},
		{"empty.csv", 0, -1, 422, []string{"body"}},
		{"large.csv", 1001, 1001, 413, nil},
		{"large.csv", 1001, -1, 413, nil},
	} {
		status, fields := try(c.name, c.size, c.declared)
		if status != c.status || !slices.Equal(fields, c.fields) {
			t.Errorf("%.20q with %d bytes: %d %v, want %d %v", c.name, c.size, status, fields, c.status, c.fields)
		}
	}
}

func TestAConnectionThatBreaksInAnUploadLeavesNothing(t *testing.T) {
	m := newMesh(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(m.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(conn)
	fmt.Fprintf(w, "POST /v1/datasets?name=x.csv HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", m.tokens[api.RoleUser], 50<<20)
	if _, err := io.CopyN(w, &lines{left: 40 << 20}, 40<<20); err != nil {
		t.Fatal(err)
	}
	w.Flush()
	conn.Close()
	// What is left shows in the store's own folder of unfinished uploads.
	deadline := time.Now().Add(10 * time.Second)
	for {
		if left := m.unfinished(t); len(left) == 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("left behind: %v", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
	listed, err := m.client(api.RoleViewer).Datasets(t.Context())
	if err != nil || len(listed) != 0 {
		t.Errorf("datasets %+v, %v", listed, err)
	}
}

// TestAGibibyteThroughASmallControlPlane runs the control plane in a process of
// its own and measures that. It is slow: it moves 2 GiB on the disk.
func TestAGibibyteThroughASmallControlPlane(t *testing.T) {
	if os.Getenv("TUNEMESH_SLOW") == "" {
		t.Skip("moves 2 GiB on the disk: set TUNEMESH_SLOW=1")
	}
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc for the process's peak memory")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestServeForMeasurement$", "-test.v")
	cmd.Env = append(os.Environ(), "TUNEMESH_MEASURE=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close(); _ = cmd.Wait() }()
	var url, token string
	scan := bufio.NewScanner(out)
	for scan.Scan() {
		if _, err := fmt.Sscanf(scan.Text(), "SERVING %s %s", &url, &token); err == nil {
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if url == "" {
		t.Fatal("the server did not start")
	}
	const size = 1 << 30
	began := time.Now()
	req, _ := http.NewRequest("POST", url+"/v1/datasets?name=big.csv", &lines{left: size})
	req.ContentLength = size
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("upload: %s", resp.Status)
	}
	took := time.Since(began)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var peak int64
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &peak)
	}
	t.Logf("1 GiB in %v (%.0f MB/s), peak RSS %d MB", took.Round(time.Millisecond), float64(size)/1e6/took.Seconds(), peak/1000)
	if peak == 0 || peak > 200_000 {
		t.Errorf("the control plane's peak RSS is %d kB, want under 200 MB", peak)
	}
}

// TestServeForMeasurement is the other process of the test above.
func TestServeForMeasurement(t *testing.T) {
	if os.Getenv("TUNEMESH_MEASURE") == "" {
		t.Skip("started by TestAGibibyteThroughASmallControlPlane")
	}
	m := newMesh(t)
	fmt.Printf("SERVING %s %s\n", m.url, m.tokens[api.RoleUser])
	_, _ = io.Copy(io.Discard, os.Stdin)
}
