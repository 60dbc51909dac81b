package events_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/events/eventstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openIn(t testing.TB, c events.DiskConfig) *events.Disk {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	d, err := events.OpenDisk(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDiskIsALog(t *testing.T) {
	for name, c := range map[string]events.DiskConfig{
		"defaults":      {},
		"tiny segments": {SegmentBytes: 700, RingEvents: 3},
		"one open file": {OpenJobs: 1, RingEvents: 1},
	} {
		t.Run(name, func(t *testing.T) {
			eventstest.Run(t, func(t testing.TB) eventstest.Open {
				c := c
				c.Dir = t.TempDir()
				return func(t testing.TB) events.Log { return openIn(t, c) }
			})
		})
	}
}

// newestSegment returns the path of a job's newest segment.
func newestSegment(t *testing.T, dir, job string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, job, "*.log"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	slices.Sort(names)
	return names[len(names)-1]
}

func TestATornTailIsCutAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	d := openIn(t, events.DiskConfig{Dir: dir})
	ctx := context.Background()
	for first := uint64(1); first <= 4; first++ {
		if _, err := d.Append(ctx, "J", "a1", first, eventstest.Batch("a1", first, 1)); err != nil {
			t.Fatal(err)
		}
	}
	d.Close()
	whole, err := os.ReadFile(newestSegment(t, dir, "J"))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		at := t.TempDir()
		file := filepath.Join(at, "J", fmt.Sprintf("%020d.log", 1))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		d := openIn(t, events.DiskConfig{Dir: at})
		got, err := d.Read(ctx, "J", 0, 100)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		for i, e := range got {
			if e.Message != fmt.Sprintf("a1/%d", i+1) {
				t.Fatalf("cut at %d: event %d is %q", cut, i+1, e.Message)
			}
		}
		next, err := d.Append(ctx, "J", "a1", uint64(len(got)+1), eventstest.Batch("a1", uint64(len(got)+1), 1))
		if err != nil || next != uint64(len(got)+2) {
			t.Fatalf("cut at %d: append after %d events: next %d, %v", cut, len(got), next, err)
		}
		d.Close()
	}
}

func TestADamagedByteLosesNothingBeforeIt(t *testing.T) {
	dir := t.TempDir()
	d := openIn(t, events.DiskConfig{Dir: dir})
	ctx := context.Background()
	if _, err := d.Append(ctx, "J", "a1", 1, eventstest.Batch("a1", 1, 10)); err != nil {
		t.Fatal(err)
	}
	d.Close()
	file := newestSegment(t, dir, "J")
	data, _ := os.ReadFile(file)
	data[len(data)*2/3] ^= 0x20
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	d = openIn(t, events.DiskConfig{Dir: dir})
	defer d.Close()
	got, err := d.Read(ctx, "J", 0, 100)
	if err != nil || len(got) < 5 || len(got) >= 10 {
		t.Errorf("%d events are left, %v", len(got), err)
	}
}

func TestASegmentWhoseHeaderWasTornIsMadeAgain(t *testing.T) {
	dir := t.TempDir()
	c := events.DiskConfig{Dir: dir, SegmentBytes: 500}
	d := openIn(t, c)
	ctx := context.Background()
	for first := uint64(1); first <= 12; first++ {
		if _, err := d.Append(ctx, "J", "a1", first, eventstest.Batch("a1", first, 1)); err != nil {
			t.Fatal(err)
		}
	}
	d.Close()
	torn := filepath.Join(dir, "J", fmt.Sprintf("%020d.log", 13))
	if err := os.WriteFile(torn, []byte("0a0b"), 0o600); err != nil {
		t.Fatal(err)
	}
	d = openIn(t, c)
	defer d.Close()
	if next, err := d.Append(ctx, "J", "a1", 13, eventstest.Batch("a1", 13, 1)); err != nil || next != 14 {
		t.Fatalf("next %d, %v", next, err)
	}
	tail := eventstest.Follow(d, "J", 0)
	for want := uint64(1); want <= 13; want++ {
		got, err := tail.Next(ctx, 1)
		if err != nil || len(got) != 1 || got[0].Message != fmt.Sprintf("a1/%d", want) {
			t.Fatalf("event %d: %+v, %v", want, got, err)
		}
	}
}

func TestOpenFilesAreBounded(t *testing.T) {
	d := openIn(t, events.DiskConfig{Dir: t.TempDir(), OpenJobs: 4})
	defer d.Close()
	before := openFiles(t)
	for i := range 60 {
		if _, err := d.Append(context.Background(), fmt.Sprintf("J%d", i), "a1", 1, eventstest.Batch("a1", 1, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if now := openFiles(t); now > before+8 {
		t.Errorf("%d files are open, before were %d", now, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("open files cannot be counted here: %v", err)
	}
	return len(entries)
}

// BenchmarkAppend shows what group commit gives: events per second of one and
// of 32 writers of a job, each waiting for its batch to be durable.
func BenchmarkAppend(b *testing.B) {
	b.Run("32 writers, batches of 1", func(b *testing.B) {
		d := openIn(b, events.DiskConfig{Dir: b.TempDir()})
		defer d.Close()
		var writers atomic.Uint64
		b.SetParallelism(16)
		b.RunParallel(func(p *testing.PB) {
			source := events.Source(writers.Add(1))
			for first := uint64(1); p.Next(); first++ {
				if _, err := d.Append(context.Background(), "J", source, first, eventstest.Batch(source, first, 1)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	})
	for _, batch := range []int{1, 64} {
		b.Run(fmt.Sprintf("one writer, batches of %d", batch), func(b *testing.B) {
			d := openIn(b, events.DiskConfig{Dir: b.TempDir()})
			defer d.Close()
			loss := 1.5
			list := make([]api.Event, batch)
			for i := range list {
				list[i] = api.Event{Level: api.LevelMetric, Loss: &loss, Message: "step"}
			}
			first := uint64(1)
			for b.Loop() {
				next, err := d.Append(context.Background(), "J", "a1", first, list)
				if err != nil {
					b.Fatal(err)
				}
				first = next
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func TestDiskGoesOnAfterAnArchive(t *testing.T) {
	eventstest.RunArchived(t, func(t testing.TB) eventstest.OpenOn {
		dir := t.TempDir()
		return func(t testing.TB, base func(string) events.Base) events.Log {
			return openIn(t, events.DiskConfig{Dir: dir, Base: base})
		}
	})
}

// What is archived goes from the disk, what is not stays, and a stream that went
// is numbered on.
func TestSweepRemovesWhatIsArchivedAndIdle(t *testing.T) {
	base := map[string]events.Base{}
	now := time.Now()
	d := openIn(t, events.DiskConfig{Dir: t.TempDir(), Base: func(job string) events.Base { return base[job] }, Now: func() time.Time { return now }})
	defer d.Close()
	ctx := context.Background()
	for _, job := range []string{"archived", "partly", "running"} {
		if _, err := d.Append(ctx, job, "a1", 1, eventstest.Batch("a1", 1, 4)); err != nil {
			t.Fatal(err)
		}
		at, err := d.Position(ctx, job)
		if err != nil {
			t.Fatal(err)
		}
		if job != "running" {
			base[job] = events.Base{Last: at.Last, Life: at.Life, Sources: at.Sources}
		}
	}
	if _, err := d.Append(ctx, "partly", "a1", 5, eventstest.Batch("a1", 5, 1)); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Sweep(ctx, time.Hour); n != 0 || err != nil {
		t.Errorf("too early: %d, %v", n, err)
	}
	now = now.Add(2 * time.Hour)
	if n, err := d.Sweep(ctx, time.Hour); n != 1 || err != nil {
		t.Errorf("removed %d, %v; want 1", n, err)
	}
	for job, want := range map[string]int{"archived": 0, "partly": 5, "running": 4} {
		if got, err := d.Read(ctx, job, 0, 10); err != nil || len(got) != want {
			t.Errorf("%s has %d events, %v; want %d", job, len(got), err, want)
		}
	}
	if next, err := d.Append(ctx, "archived", "a1", 5, eventstest.Batch("a1", 5, 1)); err != nil || next != 6 {
		t.Errorf("next %d, %v", next, err)
	}
	if got, err := d.Read(ctx, "archived", 4, 10); err != nil || len(got) != 1 || got[0].Seq != 5 {
		t.Errorf("after the archive: %+v, %v", got, err)
	}
}

func TestRetentionBySizeLeavesASignInThePlaceOfWhatWent(t *testing.T) {
	dir := t.TempDir()
	d := openIn(t, events.DiskConfig{Dir: dir, SegmentBytes: 2000, KeepBytes: 6000, RingEvents: 4})
	defer d.Close()
	ctx := context.Background()
	for first := uint64(1); first <= 200; first += 2 {
		if _, err := d.Append(ctx, "J", "a1", first, eventstest.Batch("a1", first, 2)); err != nil {
			t.Fatal(err)
		}
	}
	names, err := filepath.Glob(filepath.Join(dir, "J", "*.log"))
	if err != nil || len(names) > 5 {
		t.Fatalf("%d segments are left, %v", len(names), err)
	}
	var got []api.Event
	for after := uint64(0); ; {
		part, err := d.Read(ctx, "J", after, 50)
		if err != nil {
			t.Fatal(err)
		}
		if len(part) == 0 {
			break
		}
		got, after = append(got, part...), part[len(part)-1].Seq
	}
	if got[0].Level != api.LevelWarn || !strings.Contains(got[0].Message, "events 1 to") || got[1].Seq != got[0].Seq+1 {
		t.Errorf("the stream begins with %+v, %+v", got[0], got[1])
	}
	for i, e := range got[2:] {
		if e.Seq != got[1].Seq+uint64(i)+1 {
			t.Fatalf("event %d after %d", e.Seq, got[1].Seq+uint64(i))
		}
	}
	if last := got[len(got)-1]; last.Seq != 200 {
		t.Errorf("the last event is %d", last.Seq)
	}
}
