package archive_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/events/archive"
	"github.com/tunemesh/tunemesh/controlplane/events/eventstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// objects is an object store in memory that fails when told to.
type objects struct {
	mu    sync.Mutex
	data  map[string][]byte
	fail  error
	reads int
}

func (o *objects) PutEvents(_ context.Context, job string, part int, last uint64, sum, file string) (api.Artifact, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return api.Artifact{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return api.Artifact{}, o.fail
	}
	key := fmt.Sprintf("%s/events/%d-%s", job, last, sum)
	o.data[key] = data
	o.data[fmt.Sprintf("%s/events.%d", job, part)] = data
	return api.Artifact{Bucket: "artifacts", Key: key, Size: int64(len(data)), SHA256: sum}, nil
}

func (o *objects) GetRange(_ context.Context, _, key string, offset, length int64) (io.ReadCloser, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reads++
	data, ok := o.data[key]
	if !ok || o.fail != nil {
		return nil, errors.Join(o.fail, fmt.Errorf("no object %s", key))
	}
	return io.NopCloser(bytes.NewReader(data[offset : offset+length])), nil
}

// world is a log with an archive whose parts are recorded in memory.
type world struct {
	t       testing.TB
	dir     string
	now     time.Time
	disk    *events.Disk
	log     *archive.Log
	objects *objects

	mu    sync.Mutex
	parts []api.EventArchive
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, dir: t.TempDir(), now: time.Now(), objects: &objects{data: map[string][]byte{}}}
	w.open()
	t.Cleanup(func() { _ = w.log.Close() })
	return w
}

func (w *world) recorded(string) []api.EventArchive {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.parts)
}

// open opens the log, as a server does at its start.
func (w *world) open() {
	w.t.Helper()
	var err error
	w.disk, err = events.OpenDisk(events.DiskConfig{Dir: filepath.Join(w.dir, "events"), SegmentBytes: 100_000, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return w.now }, Base: func(job string) events.Base { return events.BaseOf(w.recorded(job)) }})
	if err == nil {
		w.log, err = archive.New(archive.Config{Log: w.disk, Objects: w.objects, Parts: w.recorded, Dir: w.dir})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) append(source string, first uint64, n int) {
	w.t.Helper()
	list := eventstest.Batch(source, first, n)
	for i := range list {
		list[i].Fields = json.RawMessage(`{"a":"<&>","n":1e3}`)
	}
	if _, err := w.log.Append(context.Background(), "J", source, first, list); err != nil {
		w.t.Fatal(err)
	}
}

// archive archives what is there and records it.
func (w *world) archive() {
	w.t.Helper()
	part, missing, err := w.log.Archive(context.Background(), "J", w.recorded("J"), archive.Want{})
	if err != nil || missing != "" || part == nil {
		w.t.Fatalf("archive: %+v, missing %q, %v", part, missing, err)
	}
	w.mu.Lock()
	w.parts = append(w.parts, *part)
	w.mu.Unlock()
}

// trim lets the log forget what is archived.
func (w *world) trim() {
	w.t.Helper()
	w.now = w.now.Add(time.Hour)
	if n, err := w.disk.Sweep(context.Background(), time.Minute); n != 1 || err != nil {
		w.t.Fatalf("swept %d, %v", n, err)
	}
}

// text reads the stream as JSON lines, as the API gives it.
func (w *world) text(after uint64, step int) string {
	w.t.Helper()
	var b strings.Builder
	for {
		list := w.read(after, step)
		if len(list) == 0 {
			return b.String()
		}
		b.WriteString(encode(w.t, list))
		after = list[len(list)-1].Seq
	}
}

// read gives the next events, whose numbers have no hole.
func (w *world) read(after uint64, most int) []api.Event {
	w.t.Helper()
	list, err := w.log.Read(context.Background(), "J", after, most)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, e := range list {
		if e.Seq != after+uint64(i)+1 {
			w.t.Fatalf("after %d comes %d at place %d", after, e.Seq, i)
		}
	}
	return list
}

func encode(t testing.TB, list []api.Event) string {
	t.Helper()
	var b strings.Builder
	for _, e := range list {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(data)
		b.WriteByte('\n')
	}
	return b.String()
}

// Before and after archiving, after the log has forgotten, and after more was
// appended, a stream reads the same from any place, byte by byte.
func TestAStreamReadsTheSameWhereverItIs(t *testing.T) {
	w := newWorld(t)
	w.append("a1", 1, 6000)
	w.append("state", 1, 3)
	w.append("a2", 1, 6000)
	before := w.text(0, 256)
	check := func(when string) {
		t.Helper()
		lines := strings.SplitAfter(before, "\n")
		if w.text(0, 256) != before {
			t.Errorf("%s: the stream reads otherwise than before", when)
		}
		// The rest from other places: a read knows nothing of those before it.
		for _, at := range []int{1, 255, 4095, 4096, 5999, 6001, 12002} {
			after, got := at, ""
			for range 3 {
				list := w.read(uint64(after), 256)
				after, got = after+len(list), got+encode(t, list)
			}
			if after < min(at+300, len(lines)-1) || got != strings.Join(lines[at:after], "") {
				t.Errorf("%s: after %d the stream reads otherwise than before, or ends at %d", when, at, after)
			}
		}
	}
	w.archive()
	check("archived")
	w.trim()
	check("trimmed")
	w.append("a2", 5999, 4) // two are known
	if before += w.text(12003, 10); strings.Count(before, "\n") != 12005 {
		t.Fatalf("the stream has %d events", strings.Count(before, "\n"))
	}
	check("appended to")
	w.archive()
	w.trim()
	check("archived again")
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	check("opened again")
	if n := len(w.recorded("J")); n != 2 {
		t.Errorf("%d parts", n)
	}
	for i, p := range w.recorded("J") {
		if int64(len(w.objects.data[p.Key])) != p.Size {
			t.Errorf("part %d has %d bytes, recorded are %d", i+1, len(w.objects.data[p.Key]), p.Size)
		}
	}
}

// Any zstd program reads the whole of a part.
func TestAPartIsAnOrdinaryZstdFile(t *testing.T) {
	w := newWorld(t)
	w.append("a1", 1, 12_000)
	want := w.text(0, 500)
	w.archive()
	data := w.objects.data["J/events.1"]
	dec, err := zstd.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	got, err := io.ReadAll(dec)
	if err != nil || string(got) != want {
		t.Errorf("unpacked it has %d bytes, %v; want %d", len(got), err, len(want))
	}
	if program, err := exec.LookPath("zstd"); err == nil {
		cmd := exec.Command(program, "-dc")
		cmd.Stdin = bytes.NewReader(data)
		if got, err := cmd.Output(); err != nil || string(got) != want {
			t.Errorf("zstd -dc gives %d bytes, %v; want %d", len(got), err, len(want))
		}
	}
}

func TestWhatIsMissingHoldsTheArchiveUp(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.append("state", 1, 2)
	w.append("a7", 1, 5)
	for _, c := range []struct {
		want    archive.Want
		missing string
	}{
		{archive.Want{Transitions: 3, Anyway: true}, "state changes 3 to 3"},
		{archive.Want{Transitions: 3}, "state changes 3 to 3"},
		{archive.Want{Transitions: 2, Lines: map[uint64]uint64{7: 8}}, "lines 6 to 8 of attempt 7"},
		{archive.Want{Transitions: 2, Lines: map[uint64]uint64{9: 1}}, "lines 1 to 1 of attempt 9"},
		{archive.Want{Transitions: 2, Lines: map[uint64]uint64{7: 5}}, ""},
	} {
		part, missing, err := w.log.Archive(ctx, "J", nil, c.want)
		if err != nil || missing != c.missing || (part != nil) != (c.missing == "" || c.want.Anyway) {
			t.Errorf("%+v: part %v, missing %q, %v", c.want, part, missing, err)
		}
	}
}

// Whatever fails between two steps, to do it again is right.
func TestArchivingMayFailAnywhere(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.append("a1", 1, 100)
	want := w.text(0, 50)
	w.objects.fail = errors.New("no object store")
	if _, _, err := w.log.Archive(ctx, "J", nil, archive.Want{}); err == nil {
		t.Error("no error without an object store")
	}
	w.objects.fail = nil
	// Uploaded, then the leader died before it recorded it; more comes meanwhile.
	if _, _, err := w.log.Archive(ctx, "J", nil, archive.Want{}); err != nil {
		t.Fatal(err)
	}
	w.append("a1", 101, 1)
	w.archive()
	if part, _, err := w.log.Archive(ctx, "J", w.recorded("J"), archive.Want{}); part != nil || err != nil {
		t.Errorf("a second time: %+v, %v", part, err)
	}
	w.trim()
	if got := w.text(0, 50); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 101 {
		t.Error("the stream is not the same")
	}
	// A store that is away for a while costs an error, not the stream.
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.objects.fail = errors.New("no object store")
	if _, err := w.log.Read(ctx, "J", 0, 10); err == nil {
		t.Error("no error")
	}
	w.objects.fail = nil
	if got := w.text(0, 50); strings.Count(got, "\n") != 101 {
		t.Error("the stream does not come back")
	}
	if left, _ := filepath.Glob(filepath.Join(w.dir, "events-*")); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// A log that lost its events after they were archived, or has another server's,
// goes on after the archive.
func TestAnEmptyLogGoesOnAfterTheArchive(t *testing.T) {
	w := newWorld(t)
	w.append("a1", 1, 10)
	w.archive()
	want := w.text(0, 5)
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(w.dir, "events")); err != nil {
		t.Fatal(err)
	}
	w.open()
	if next, err := w.log.Next(context.Background(), "J", "a1"); next != 11 || err != nil {
		t.Errorf("next %d, %v", next, err)
	}
	w.append("a1", 9, 4)
	if got := w.text(0, 5); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 12 {
		t.Errorf("the stream is\n%s", got)
	}
}

func TestReadersShareWhatIsUnpacked(t *testing.T) {
	w := newWorld(t)
	w.append("a1", 1, 9000)
	w.archive()
	w.trim()
	var readers sync.WaitGroup
	for range 16 {
		readers.Go(func() {
			n := 0
			for {
				list := w.read(uint64(n), 200)
				if len(list) == 0 {
					break
				}
				n += len(list)
			}
			if n != 9000 {
				t.Errorf("a reader got %d events", n)
			}
		})
	}
	readers.Wait()
	if w.objects.reads > 5 {
		t.Errorf("%d reads of the object store", w.objects.reads)
	}
}

// Any mix of appending, archiving, trimming and opening leaves one stream.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		var words []string
		next := map[string]uint64{"a1": 1, "a2": 1}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0:
				if uint64(len(words)) > events.BaseOf(w.recorded("J")).Last {
					w.archive()
				}
			case 1:
				w.now = w.now.Add(time.Hour)
				if _, err := w.disk.Sweep(context.Background(), time.Minute); err != nil {
					rt.Fatal(err)
				}
			case 2:
				if err := w.log.Close(); err != nil {
					rt.Fatal(err)
				}
				w.open()
			default:
				source := rapid.SampledFrom([]string{"a1", "a2"}).Draw(rt, "source")
				first := rapid.Uint64Range(1, next[source]).Draw(rt, "first")
				n := rapid.IntRange(0, 9).Draw(rt, "n")
				w.append(source, first, n)
				for ; next[source] < first+uint64(n); next[source]++ {
					words = append(words, fmt.Sprintf("%s/%d", source, next[source]))
				}
			}
		}
		var got []string
		for line := range strings.Lines(w.text(0, rapid.IntRange(1, 20).Draw(rt, "page"))) {
			var e api.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				rt.Fatal(err)
			}
			got = append(got, e.Message)
		}
		if !slices.Equal(got, words) {
			rt.Fatalf("the stream is %v, want %v", got, words)
		}
	})
}
