package hub_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/trainer/importer/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	repo = "org/model"
	head = "0123456789abcdef0123456789abcdef01234567"
)

// server speaks the hub's protocol, with what may go wrong.
type server struct {
	t     *testing.T
	files map[string][]byte
	inLFS map[string]bool
	*httptest.Server
	cdn *httptest.Server

	mu       sync.Mutex
	requests []string
	// spoil, if set, may answer a request itself; n counts the requests of that kind of one path.
	spoil func(w http.ResponseWriter, r *http.Request, n int) bool
	seen  map[string]int

	token    string // that is asked for
	noBlobs  bool   // the list has no sums
	leakedTo bool   // the CDN saw the token
}

func newServer(t *testing.T) *server {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{1})
	big := make([]byte, 300_000)
	_, _ = rng.Read(big)
	s := &server{t: t, seen: map[string]int{}, inLFS: map[string]bool{"model.safetensors": true, "tokenizer.json": true}, files: map[string][]byte{
		"config.json": []byte(`{"a":1}`), "tokenizer.json": []byte(`{"model":{}}`), "tokenizer_config.json": []byte("{}"), "model.safetensors": big,
		"LICENSE": []byte("text"), "README.md": []byte("---\nlicense: mit\n---\n"), "pytorch_model.bin": []byte("no"), "onnx/model.onnx": []byte("no"), ".gitattributes": []byte("no"),
	}}
	s.cdn = httptest.NewServer(http.HandlerFunc(s.fromCDN))
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() { s.Server.Close(); s.cdn.Close() })
	return s
}

func (s *server) note(r *http.Request) (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Method + " " + r.URL.Path
	s.requests = append(s.requests, strings.TrimSpace(key+" "+r.Header.Get("Range")))
	s.seen[key]++
	return s.seen[key], s.spoil != nil
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	n, spoiled := s.note(r)
	if spoiled && s.spoil(w, r, n) {
		return
	}
	if s.token != "" && r.Header.Get("Authorization") != "Bearer "+s.token {
		w.Header().Set("X-Error-Code", "GatedRepo")
		http.Error(w, "gated", http.StatusForbidden)
		return
	}
	if rev, ok := strings.CutPrefix(r.URL.Path, "/api/models/"+repo+"/revision/"); ok {
		if rev != "main" && rev != head && rev != "refs/pr/1" {
			w.Header().Set("X-Error-Code", "RevisionNotFound")
			http.NotFound(w, r)
			return
		}
		s.list(w)
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/"+repo+"/resolve/"+head+"/")
	data, there := s.files[name]
	if !ok || !there {
		w.Header().Set("X-Error-Code", "RepoNotFound")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("X-Repo-Commit", head)
	if s.inLFS[name] {
		w.Header().Set("X-Linked-Etag", `"`+sum256(data)+`"`)
		w.Header().Set("X-Linked-Size", strconv.Itoa(len(data)))
		http.Redirect(w, r, s.cdn.URL+"/"+name, http.StatusFound)
		return
	}
	w.Header().Set("ETag", `W/"`+gitSum(data)+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (s *server) list(w http.ResponseWriter) {
	var siblings []map[string]any
	for name, data := range s.files {
		f := map[string]any{"rfilename": name}
		if !s.noBlobs {
			f["size"], f["blobId"] = len(data), gitSum(data)
			if s.inLFS[name] {
				f["lfs"] = map[string]any{"sha256": sum256(data), "size": len(data)}
			}
		}
		siblings = append(siblings, f)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"sha": head, "siblings": siblings})
}

func (s *server) fromCDN(w http.ResponseWriter, r *http.Request) {
	n, spoiled := s.note(r)
	if r.Header.Get("Authorization") != "" {
		s.mu.Lock()
		s.leakedTo = true
		s.mu.Unlock()
	}
	if spoiled && s.spoil(w, r, n) {
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.files[strings.TrimPrefix(r.URL.Path, "/")]))
}

func sum256(data []byte) string { s := sha256.Sum256(data); return hex.EncodeToString(s[:]) }

func gitSum(data []byte) string {
	s := sha1.Sum(append([]byte(fmt.Sprintf("blob %d\x00", len(data))), data...))
	return hex.EncodeToString(s[:])
}

func client(t *testing.T, c hub.Config) *hub.Client {
	t.Helper()
	made, err := hub.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// fetch fetches and gives the pauses that were made.
func (s *server) fetch(dir, source string, token string) (hub.Fetched, []time.Duration, error) {
	s.t.Helper()
	var pauses []time.Duration
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c := client(s.t, hub.Config{Endpoint: s.URL + "/", Token: token, Client: &http.Client{Transport: transport}, Now: func() time.Time { return time.Unix(1000, 0) },
		Sleep: func(ctx context.Context, d time.Duration) error { pauses = append(pauses, d); return ctx.Err() }})
	src, err := hub.Parse(source)
	if err != nil {
		s.t.Fatal(err)
	}
	last, lastTotal := int64(-1), int64(0)
	got, err := c.Fetch(context.Background(), src, dir, hub.Hooks{Progress: func(done, total int64) { last, lastTotal = done, total }})
	if err == nil && last != lastTotal {
		s.t.Errorf("the progress ended at %d of %d", last, lastTotal)
	}
	return got, pauses, err
}

func (s *server) check(got hub.Fetched, want ...string) {
	s.t.Helper()
	slices.Sort(want)
	files := slices.Sorted(slices.Values(got.Files))
	if !slices.Equal(files, want) {
		s.t.Errorf("fetched %q, want %q", files, want)
	}
	for _, name := range want {
		data, err := os.ReadFile(filepath.Join(got.Path, name))
		if err != nil || !bytes.Equal(data, s.files[name]) {
			s.t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
}

var needed = []string{"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "LICENSE", "README.md"}

func TestWhatAnImportNeedsIsFetched(t *testing.T) {
	for _, noBlobs := range []bool{false, true} {
		s := newServer(t)
		s.noBlobs = noBlobs
		s.token = "hf_secret"
		dir := t.TempDir()
		got, _, err := s.fetch(dir, "hf:org/model", "hf_secret")
		if err != nil {
			t.Fatal(err)
		}
		if got.Commit != head || got.Path != filepath.Join(dir, "org--model", head) {
			t.Errorf("%+v", got)
		}
		s.check(got, needed...)
		if s.leakedTo {
			t.Error("the token went to another host")
		}
		// A second time nothing is fetched again.
		s.requests = nil
		if _, _, err := s.fetch(dir, "hf:org/model@"+head, "hf_secret"); err != nil {
			t.Fatal(err)
		}
		for _, r := range s.requests {
			if strings.HasPrefix(r, "GET /"+repo) || strings.HasPrefix(r, "GET /model") {
				t.Errorf("fetched again: %s", r)
			}
		}
	}
}

// A connection that breaks again and again costs no byte twice.
func TestABrokenDownloadIsResumed(t *testing.T) {
	s := newServer(t)
	size := len(s.files["model.safetensors"])
	s.spoil = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if r.URL.Path != "/model.safetensors" || n > 20 {
			return false
		}
		from := 0
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, size-1, size))
		}
		w.Header().Set("Content-Length", strconv.Itoa(size-from))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(s.files["model.safetensors"][from:min(size, from+10_000)])
		panic(http.ErrAbortHandler)
	}
	got, pauses, err := s.fetch(t.TempDir(), "hf:org/model", "")
	if err != nil {
		t.Fatal(err)
	}
	s.check(got, needed...)
	if len(pauses) != 20 {
		t.Errorf("%d pauses, want one for each break", len(pauses))
	}
}

// So is one that another process, which was killed, began.
func TestAnInterruptedFetchIsResumed(t *testing.T) {
	s := newServer(t)
	dir := t.TempDir()
	folder := filepath.Join(dir, "org--model", head)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(folder, "model.safetensors.part")
	if err := os.WriteFile(part, s.files["model.safetensors"][:123_456], 0o644); err != nil {
		t.Fatal(err)
	}
	got, _, err := s.fetch(dir, "hf:org/model", "")
	if err != nil {
		t.Fatal(err)
	}
	s.check(got, needed...)
	if got.Resumed != 123_456 || !slices.Contains(s.requests, "GET /model.safetensors bytes=123456-") {
		t.Errorf("resumed %d, requests %q", got.Resumed, s.requests)
	}
	// A part of something else is noticed by the checksum, and fetched anew.
	dir = t.TempDir()
	folder = filepath.Join(dir, "org--model", head)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "model.safetensors.part"), make([]byte, 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, _, err = s.fetch(dir, "hf:org/model", ""); err != nil {
		t.Fatal(err)
	}
	s.check(got, needed...)
	// A server that knows no ranges sends all of it.
	dir = t.TempDir()
	folder = filepath.Join(dir, "org--model", head)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "model.safetensors.part"), s.files["model.safetensors"][:777], 0o644); err != nil {
		t.Fatal(err)
	}
	s.spoil = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if r.URL.Path != "/model.safetensors" {
			return false
		}
		_, _ = w.Write(s.files["model.safetensors"])
		return true
	}
	if got, _, err = s.fetch(dir, "hf:org/model", ""); err != nil {
		t.Fatal(err)
	}
	s.check(got, needed...)
}

func TestWrongBytesAreNoticed(t *testing.T) {
	for _, name := range []string{"model.safetensors", "config.json"} {
		s := newServer(t)
		times := 1
		s.spoil = func(w http.ResponseWriter, r *http.Request, n int) bool {
			if !strings.HasSuffix(r.URL.Path, "/"+name) || r.Method != "GET" || s.inLFS[name] && strings.HasPrefix(r.URL.Path, "/"+repo) || n > times {
				return false
			}
			data := bytes.Clone(s.files[name])
			data[len(data)/2] ^= 1
			_, _ = w.Write(data)
			return true
		}
		got, _, err := s.fetch(t.TempDir(), "hf:org/model", "") // once: it is fetched again
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.check(got, needed...)
		s.seen, times = map[string]int{}, 99
		dir := t.TempDir()
		got, _, err = s.fetch(dir, "hf:org/model", "")
		if err == nil || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(got.Path, name)); err == nil {
			t.Errorf("%s has its name although it is wrong", name)
		}
	}
}

func TestBusyServersAreWaitedFor(t *testing.T) {
	s := newServer(t)
	s.spoil = func(w http.ResponseWriter, r *http.Request, n int) bool {
		switch {
		case strings.HasPrefix(r.URL.Path, "/api/") && n == 1:
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		case strings.HasPrefix(r.URL.Path, "/api/") && n == 2:
			w.Header().Set("Retry-After", time.Unix(1011, 0).UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/model.safetensors" && n <= 2:
			w.WriteHeader(http.StatusBadGateway)
		default:
			return false
		}
		return true
	}
	got, pauses, err := s.fetch(t.TempDir(), "hf:org/model", "")
	if err != nil {
		t.Fatal(err)
	}
	s.check(got, needed...)
	if want := []time.Duration{7 * time.Second, 11 * time.Second, time.Second, 2 * time.Second}; !slices.Equal(pauses, want) {
		t.Errorf("pauses %v, want %v", pauses, want)
	}
	s.spoil = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	if _, pauses, err = s.fetch(t.TempDir(), "hf:org/model", ""); err == nil || !strings.Contains(err.Error(), "503") || len(pauses) != 5 {
		t.Errorf("%v, %v", pauses, err)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	for label, c := range map[string]struct {
		source, token, want string
		spoil               func(s *server)
	}{
		"gated":             {"hf:org/model", "", "HF_TOKEN", func(s *server) { s.token = "x" }},
		"wrong token":       {"hf:org/model", "y", "accept its conditions", func(s *server) { s.token = "x" }},
		"not there":         {"hf:org/other", "", "not there, or not for everyone", nil},
		"bad token":         {"hf:org/other", "y", "does not take the token", nil},
		"revision":          {"hf:org/model@v9", "", "has no revision v9: URL/org/model/tree/main names", nil},
		"no config":         {"hf:org/model", "", "no config.json", func(s *server) { delete(s.files, "config.json") }},
		"pickled":           {"hf:org/model", "", "only weights as safetensors are taken: look among its branches", func(s *server) { delete(s.files, "model.safetensors") }},
		"pickled with GGUF": {"hf:org/model", "", "hf:org/model/FILE.gguf, of a.gguf", func(s *server) { delete(s.files, "model.safetensors"); s.files["a.gguf"] = nil }},
		"no tokenizer":      {"hf:org/model", "", "neither tokenizer.json nor tokenizer.model: look", func(s *server) { delete(s.files, "tokenizer.json") }},
		"adapter": {"hf:org/model", "", "is a PEFT adapter, not a whole model: pull the base model", func(s *server) {
			delete(s.files, "config.json")
			s.files["adapter_config.json"] = nil
		}},
		"gguf only":    {"hf:org/model", "", "hf:org/model/FILE.gguf, of a.gguf", func(s *server) { s.files = map[string][]byte{"a.gguf": nil} }},
		"gguf missing": {"hf:org/model/b.gguf", "", "has no file b.gguf, and no other GGUF file: take the whole model, hf:org/model", nil},
		"no protocol": {"hf:org/model", "", "does not speak", func(s *server) {
			s.spoil = func(w http.ResponseWriter, _ *http.Request, _ int) bool { fmt.Fprint(w, "{}"); return true }
		}},
		"shard missing": {"hf:org/model", "", "shard b.safetensors, which is not there: the upload of this revision is not whole", func(s *server) {
			delete(s.files, "model.safetensors")
			s.files["model.safetensors.index.json"] = []byte(`{"weight_map":{"x":"b.safetensors"}}`)
		}},
	} {
		s := newServer(t)
		if c.spoil != nil {
			c.spoil(s)
		}
		_, pauses, err := s.fetch(t.TempDir(), c.source, c.token)
		var fault *hub.Error
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), strings.ReplaceAll(c.want, "URL", s.URL)) || len(pauses) != 0 {
			t.Errorf("%s: %v after %v, want %q", label, err, pauses, c.want)
		}
	}
}

func TestShardsAndSingleFiles(t *testing.T) {
	s := newServer(t)
	delete(s.files, "model.safetensors")
	s.files["model.safetensors.index.json"] = []byte(`{"weight_map":{"x":"model-2.safetensors","y":"model-1.safetensors","z":"model-2.safetensors"}}`)
	s.files["model-1.safetensors"], s.files["model-2.safetensors"], s.files["consolidated.safetensors"] = []byte("one"), []byte("two"), []byte("no")
	got, _, err := s.fetch(t.TempDir(), "hf:org/model@refs/pr/1", "")
	if err != nil {
		t.Fatal(err)
	}
	want := append(slices.DeleteFunc(slices.Clone(needed), func(n string) bool { return n == "model.safetensors" }), "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json")
	s.check(got, want...)
	s.files["sub/m.Q4_K_M.gguf"] = []byte("GGUF")
	got, _, err = s.fetch(t.TempDir(), "hf:org/model/sub/m.Q4_K_M.gguf", "")
	if data, readErr := os.ReadFile(got.Path); err != nil || readErr != nil || string(data) != "GGUF" {
		t.Errorf("%+v, %v, %v", got, err, readErr)
	}
}

func TestSources(t *testing.T) {
	for text, want := range map[string]string{
		"hf:a/b": "hf:a/b@main b", "hf:Org-1/Name.v2@refs/pr/3": "hf:Org-1/Name.v2@refs/pr/3 Name.v2", "hf:a/b/c.Q8_0.gguf@x": "hf:a/b/c.Q8_0.gguf@x c.Q8_0",
		"hf:a": "", "hf:": "", "hf:a/b@": "", "hf:../b": "", "hf:a/..": "", "hf:a/b@../x": "", "hf:a/b/../c.gguf": "", "hf:a/b/c.bin": "", "hf:a b/c": "", "hf:a/b/c.gguf@x@y": "",
	} {
		s, err := hub.Parse(text)
		if got := s.String() + " " + s.Name(); (err != nil) != (want == "") || err == nil && got != want {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestCtrlCKeepsWhatIsThere(t *testing.T) {
	s := newServer(t)
	s.spoil = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path != "/model.safetensors" {
			return false
		}
		_, _ = w.Write(s.files["model.safetensors"][:100_000])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	}
	ctx, cancel := context.WithCancel(context.Background())
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c := client(t, hub.Config{Endpoint: s.URL, Client: &http.Client{Transport: transport}})
	src, _ := hub.Parse("hf:org/model")
	dir := t.TempDir()
	_, err := c.Fetch(ctx, src, dir, hub.Hooks{Progress: func(done, _ int64) {
		if done > 50_000 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	st, err := os.Stat(filepath.Join(dir, "org--model", head, "model.safetensors.part"))
	if err != nil || st.Size() == 0 {
		t.Errorf("%v, %v", st, err)
	}
}

// A source that is taken names a repository and files within it, and means the same when it
// is written and read again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"hf:a/b", "hf:a/b@v1", "hf:a/b/c.gguf@refs/pr/1", "hf:../..", "hf:a/b/../../c.gguf"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := hub.Parse(text)
		if err != nil {
			return
		}
		if again, err := hub.Parse(s.String()); err != nil || again != s {
			t.Fatalf("%q became %+v, then %+v, %v", text, s, again, err)
		}
		for _, part := range []string{s.Repo, s.Revision, s.File} {
			if strings.Contains(part, "..") && part != s.File || strings.HasPrefix(part, "/") || s.File != "" && !filepath.IsLocal(s.File) {
				t.Fatalf("%q leads out: %+v", text, s)
			}
		}
	})
}
