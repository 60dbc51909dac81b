package artifacts_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/artifacts/s3test"
)

func TestMain(m *testing.M) {
	code := s3test.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			println(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}

// raw returns a client of the store that the package does not offer, to look at
// what really lies there.
func raw(t *testing.T, e *artifacts.Embedded) *minio.Client {
	t.Helper()
	c := e.Config()
	m, err := minio.New(c.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""), Region: "us-east-1", Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// everything lists all objects and unfinished uploads of the dataset bucket.
func everything(t *testing.T, m *minio.Client) []string {
	t.Helper()
	var found []string
	for o := range m.ListObjects(t.Context(), api.BucketDatasets, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		found = append(found, o.Key)
	}
	for u := range m.ListIncompleteUploads(t.Context(), api.BucketDatasets, "", true) {
		if u.Err != nil {
			t.Fatal(u.Err)
		}
		found = append(found, "unfinished "+u.Key)
	}
	return found
}

func noise(n int) []byte {
	data := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := 0; i+8 <= n; i += 8 {
		v := r.Uint64()
		for j := range 8 {
			data[i+j] = byte(v >> (8 * j))
		}
	}
	return data
}

func TestADatasetIsStoredOnceUnderItsContent(t *testing.T) {
	s, e := s3test.Start(t)
	data := noise(20 << 20) // two parts
	for _, size := range []int64{int64(len(data)), -1} {
		d, err := s.PutDataset(t.Context(), "tickets.csv", bytes.NewReader(data), size)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		want := hex.EncodeToString(sum[:])
		if d.SHA256 != want || d.ID != "ds_"+want[:16] || d.Key != "raw/"+d.ID+".csv" || d.Size != int64(len(data)) || d.Format != "csv" {
			t.Errorf("size %d: got %+v", size, d)
		}
		r, err := s.Get(t.Context(), api.BucketDatasets, d.Key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("size %d: read back %d bytes, %v", size, len(got), err)
		}
	}
	if found := everything(t, raw(t, e)); len(found) != 1 {
		t.Errorf("the bucket holds %v, want the one dataset", found)
	}
}

// brokenReader ends with an error after n bytes, as a lost connection does.
type brokenReader struct {
	n   int
	err error
}

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, r.err
	}
	n := min(len(p), r.n)
	r.n -= n
	return n, nil
}

func TestABrokenUploadLeavesNothing(t *testing.T) {
	s, e := s3test.Start(t)
	lost := errors.New("connection lost")
	cases := []struct {
		name  string
		bytes int
		err   error
		size  int64
	}{
		{"small, unknown size", 1000, lost, -1},
		{"small, known size", 1000, lost, 2000},
		{"small, ends early", 1000, io.EOF, 2000},
		{"in the second part", 20 << 20, lost, 40 << 20},
		{"in the second part, unknown size", 20 << 20, lost, -1},
		{"ends early in the second part", 20 << 20, io.EOF, 40 << 20},
		{"empty", 0, io.EOF, -1},
		{"empty, said so", 0, io.EOF, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.PutDataset(t.Context(), "x.csv", &brokenReader{c.bytes, c.err}, c.size)
			var size *artifacts.SizeError
			switch {
			case c.bytes == 0:
				if !errors.Is(err, artifacts.ErrEmpty) {
					t.Errorf("got %v, want ErrEmpty", err)
				}
			case c.err == io.EOF:
				if !errors.As(err, &size) || size.Got != int64(c.bytes) {
					t.Errorf("got %v, want a SizeError with %d bytes", err, c.bytes)
				}
			default:
				if !errors.Is(err, lost) {
					t.Errorf("got %v, want the reader's error", err)
				}
			}
			if found := everything(t, raw(t, e)); len(found) != 0 {
				t.Errorf("left behind: %v", found)
			}
		})
	}
	t.Run("request cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &cancelReader{cancel: cancel, after: 20 << 20}
		if _, err := s.PutDataset(ctx, "x.csv", r, -1); err == nil {
			t.Error("a cancelled upload succeeded")
		}
		if found := everything(t, raw(t, e)); len(found) != 0 {
			t.Errorf("left behind: %v", found)
		}
	})
}

type cancelReader struct {
	cancel func()
	after  int
}

func (r *cancelReader) Read(p []byte) (int, error) {
	if r.after -= len(p); r.after <= 0 {
		r.cancel()
		return 0, context.Canceled
	}
	return len(p), nil
}

func TestPresignedURLsCarryBytesBothWays(t *testing.T) {
	s, _ := s3test.Shared(t)
	for name, data := range map[string][]byte{"empty": {}, "small": []byte("hello"), "large": noise(9 << 20)} {
		bucket, key, err := artifacts.PlaceKey(artifacts.PlaceAdapter, "01JOB", 41, "adapter/"+name)
		if err != nil {
			t.Fatal(err)
		}
		put, err := s.PresignPut(t.Context(), bucket, key)
		if err != nil {
			t.Fatal(err)
		}
		req, _ := http.NewRequest(http.MethodPut, put, bytes.NewReader(data))
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: PUT: %v %v", name, resp, err)
		}
		resp.Body.Close()
		link, err := s.PresignGet(t.Context(), bucket, key)
		if err != nil {
			t.Fatal(err)
		}
		resp, err = http.Get(link)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: read back %d bytes, %v", name, len(got), err)
		}
		resp, err = http.Get(strings.Replace(link, key, key+"x", 1))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: a link for another key answers %s", name, resp.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestVerifyFindsWhatIsNotThere(t *testing.T) {
	s, _ := s3test.Shared(t)
	a, err := s.PutBytes(t.Context(), api.BucketArtifacts, "01JOB/7/metrics.json", []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), []api.Artifact{a}); err != nil {
		t.Errorf("an artifact that is there: %v", err)
	}
	for what, change := range map[string]func(*api.Artifact){
		"gone":       func(a *api.Artifact) { a.Key += "x" },
		"other size": func(a *api.Artifact) { a.Size++ },
		"other hash": func(a *api.Artifact) { a.SHA256 = strings.Repeat("0", 64) },
	} {
		b := a
		change(&b)
		var missing *artifacts.MissingError
		if err := s.Verify(t.Context(), []api.Artifact{a, b}); !errors.As(err, &missing) {
			t.Errorf("%s: got %v, want a MissingError", what, err)
		}
	}
}

func TestPublishCopiesWellKnownNamesAndMayBeRepeated(t *testing.T) {
	s, _ := s3test.Shared(t)
	st := api.Stage{JobID: "01JOB", StageSpec: api.StageSpec{Name: "evaluation"}}
	for _, name := range []string{"metrics.json", "notes.txt"} {
		a, err := s.PutBytes(t.Context(), api.BucketArtifacts, "01JOB/7/"+name, []byte(name))
		if err != nil {
			t.Fatal(err)
		}
		a.Name = name
		st.Artifacts = append(st.Artifacts, a)
	}
	for range 2 {
		if err := s.Publish(t.Context(), st); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.Get(t.Context(), api.BucketArtifacts, "01JOB/metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(r)
	r.Close()
	if string(got) != "metrics.json" {
		t.Errorf("published %q", got)
	}
	if r, err := s.Get(t.Context(), api.BucketArtifacts, "01JOB/notes.txt"); err == nil {
		r.Close()
		t.Error("an artifact without a well-known name was published")
	}
}

func TestTheStoreComesBackAfterAKillWithTheSameURLs(t *testing.T) {
	s, e := s3test.Start(t)
	if _, err := s.PutBytes(t.Context(), api.BucketModels, "base/m/config.json", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	link, err := s.PresignGet(t.Context(), api.BucketModels, "base/m/config.json")
	if err != nil {
		t.Fatal(err)
	}
	before := e.PID()
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		resp, err := http.Get(link)
		if err == nil {
			got, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(got) == "{}" {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("not back after 10 s: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if e.PID() == before {
		t.Error("the child was not started again")
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestARestartKeepsKeysPortAndData(t *testing.T) {
	dir := t.TempDir()
	var link string
	var port string
	t.Run("first life", func(t *testing.T) {
		s, e := s3test.StartIn(t, dir)
		if _, err := s.PutBytes(t.Context(), api.BucketModels, "base/m/config.json", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		var err error
		if link, err = s.PresignGet(t.Context(), api.BucketModels, "base/m/config.json"); err != nil {
			t.Fatal(err)
		}
		port = e.Config().Endpoint
	})
	info, err := os.Stat(filepath.Join(dir, "identity.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the keys' file: %v %v, want mode 0600", info.Mode(), err)
	}
	t.Run("second life", func(t *testing.T) {
		_, e := s3test.StartIn(t, dir)
		if e.Config().Endpoint != port {
			t.Errorf("the endpoint moved from %s to %s", port, e.Config().Endpoint)
		}
		resp, err := http.Get(link)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("the old link: %v %v", resp, err)
		}
		resp.Body.Close()
	})
	http.DefaultClient.CloseIdleConnections()
}

func TestWrongKeysAreRefused(t *testing.T) {
	_, e := s3test.Shared(t)
	c := e.Config()
	c.SecretKey += "x"
	if _, err := artifacts.Open(t.Context(), c); err == nil {
		t.Error("opened with a wrong secret")
	}
}

func TestMetadataMayLieInFilesOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	for _, life := range []string{"first", "second"} {
		t.Run(life+" life", func(t *testing.T) {
			ctx := t.Context()
			e, err := artifacts.StartEmbedded(ctx, artifacts.EmbeddedConfig{Dir: dir, Command: s3test.Command(), Log: slog.New(slog.DiscardHandler), Sidecar: life == "first"})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			s, err := artifacts.Open(ctx, e.Config())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			d, err := s.PutDataset(ctx, "x.csv", strings.NewReader("text,label\n"), -1)
			if err != nil {
				t.Fatal(err)
			}
			a := api.Artifact{Bucket: api.BucketDatasets, Key: d.Key, Size: d.Size, SHA256: d.SHA256}
			if err := s.Verify(ctx, []api.Artifact{a}); err != nil {
				t.Error(err)
			}
			a.SHA256 = strings.Repeat("0", 64)
			if err := s.Verify(ctx, []api.Artifact{a}); err == nil {
				t.Error("the hash in the metadata was not found")
			}
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "meta")); err != nil {
		t.Errorf("no folder of metadata: %v", err)
	}
}

// TestTheStoreEndsWithAParentThatIsKilled starts a parent in a process of its
// own, kills it and looks for the child.
func TestTheStoreEndsWithAParentThatIsKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks for processes in /proc")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestParentToBeKilled$", "-test.v")
	cmd.Env = append(os.Environ(), "TUNEMESH_PARENT="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	child := 0
	scan := bufio.NewScanner(out)
	for child == 0 && scan.Scan() {
		_, _ = fmt.Sscanf(scan.Text(), "CHILD %d", &child)
	}
	if child == 0 {
		t.Fatal("the parent started no child")
	}
	if err := syscall.Kill(child, 0); err != nil {
		t.Fatalf("the child does not run: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for alive(child) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(child, syscall.SIGKILL)
			t.Fatal("the child outlived its parent")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// alive says whether a process runs; one that nobody has waited for does not.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// TestParentToBeKilled is the other process of the test above.
func TestParentToBeKilled(t *testing.T) {
	dir := os.Getenv("TUNEMESH_PARENT")
	if dir == "" {
		t.Skip("started by TestTheStoreEndsWithAParentThatIsKilled")
	}
	_, e := s3test.StartIn(t, dir)
	fmt.Printf("CHILD %d\n", e.PID())
	time.Sleep(time.Minute)
}
