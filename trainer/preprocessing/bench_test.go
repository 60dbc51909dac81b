package preprocessing_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/examples/tickets"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/preprocessing"
	"github.com/tunemesh/tunemesh/trainer/validation"
)

// generated writes a CSV file of n tickets without holding it in memory, and
// returns the input document of a job on it.
func generated(t testing.TB, n int, next func(i int) tickets.Ticket) contract.Input {
	t.Helper()
	in := stagetest.Input(t, "dataset", "tickets.csv", nil, `{}`)
	in.Inputs[0].SHA256 = "" // that of the empty file
	f, err := os.Create(in.Inputs[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	const chunk = 10_000
	for done := 0; done < n; done += chunk {
		rows := make([]tickets.Ticket, 0, chunk)
		for range min(chunk, n-done) {
			rows = append(rows, next(done+len(rows)))
		}
		if err := tickets.WriteRows(f, rows, done == 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	stagetest.AddFile(t, &in, contract.ModelInputs, "tokenizer.json", tokenizerJSON())
	stagetest.AddFile(t, &in, contract.ModelInputs, "config.json", []byte(`{"max_position_embeddings":512}`))
	return in
}

// different gives tickets of which no two are equal.
func different() func(int) tickets.Ticket {
	g := tickets.NewGenerator(99)
	return func(i int) tickets.Ticket {
		t := g.Next()
		t.Body += " no" + strings.Join(strings.Split(strconv.Itoa(i), ""), " ")
		return t
	}
}

// fewWords gives tickets of ten words, no two equal: the tokenizer remembers words,
// within bounds, and that would hide what the stages remember of rows.
func fewWords(i int) tickets.Ticket {
	words := []string{" lamp", " order", " is", " not", " on", " please", " when", " hub", " the", " my"}
	t := tickets.Ticket{Subject: "A lamp", Category: tickets.Categories()[i%8]}
	for n := i + 1_000_000; n > 0; n /= 10 {
		t.Body += words[n%10] + " and so on and so forth"
	}
	return t
}

// watchHeap calls f and returns by how much the live heap grew at most meanwhile.
func watchHeap(f func()) int64 {
	live := func() int64 { // as the last collection found it
		m := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(m)
		return int64(m[0].Value.Uint64())
	}
	runtime.GC()
	before, peak := live(), int64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(15 * time.Millisecond):
				runtime.GC() // what is left is what is held
				peak = max(peak, live()-before)
			}
		}
	}()
	f()
	close(stop)
	<-done
	return peak
}

func stage(t testing.TB, run contract.Stage, in contract.Input) contract.Result {
	t.Helper()
	r, _, err := stagetest.Run(context.Background(), t, run, in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What the stages hold grows by less than 80 bytes for each different row, which in
// the file takes about 250: it is the hashes that duplicates are known by.
func TestMemoryHardlyGrowsWithTheFile(t *testing.T) {
	sizes := []int{8_000, 32_000}
	if os.Getenv("TUNEMESH_BENCH_ROWS") != "" { // takes 20 seconds
		sizes = []int{100_000, 400_000}
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // fewer batches under way, less noise
	const noise = 3 << 20                           // batches under way, the tokenizer's memory of words
	var size [2]int64
	heap := map[string][2]int64{}
	for i, n := range sizes {
		in := generated(t, n, fewWords)
		in.Devices.CPUCores = 1
		info, err := os.Stat(in.Inputs[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		size[i] = info.Size()
		var r contract.Result
		grow := func(name string, f func()) {
			h := heap[name]
			h[i] = watchHeap(f)
			heap[name] = h
		}
		grow("dataset", func() { r = stage(t, dataset.Run, in) })
		next := stagetest.Next(t, in, r, "validation")
		grow("validation", func() { stage(t, validation.Run, next) })
		next.OutputDir = t.TempDir()
		grow("preprocessing", func() { stage(t, preprocessing.Run, next) })
	}
	rows, bytes := int64(sizes[1]-sizes[0]), size[1]-size[0]
	for name, h := range heap {
		limit := int64(noise)
		if name != "dataset" { // which keeps nothing of a row
			limit += 80 * rows
		}
		t.Logf("%-13s holds %5.1f MB for %d rows, %5.1f MB for %d: %.1f bytes a row", name, float64(h[0])/1e6, sizes[0], float64(h[1])/1e6, sizes[1], float64(h[1]-h[0])/float64(rows))
		if limit >= bytes {
			t.Fatalf("the file grows by %d bytes only: holding all of it would not be noticed", bytes)
		}
		if grown := h[1] - h[0]; grown > limit {
			t.Errorf("%s holds %d bytes more for %d rows more, want at most %d", name, grown, rows, limit)
		}
	}
}

// BenchmarkPreprocess runs the three stages that go over the file, on one core:
//
//	TUNEMESH_BENCH_ROWS=1000000 go test -run '^$' -bench Preprocess -benchtime 1x ./trainer/preprocessing
//
// Rows and bytes are those of the source file; preprocessing goes over it twice.
func BenchmarkPreprocess(b *testing.B) {
	n := 20_000
	if s := os.Getenv("TUNEMESH_BENCH_ROWS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	in := generated(b, n, different())
	in.Devices.CPUCores = 1
	r := stage(b, dataset.Run, in)
	next := stagetest.Next(b, in, r, "preprocessing")
	info, err := os.Stat(in.Inputs[0].Path)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		run  contract.Stage
		in   contract.Input
	}{{"dataset", dataset.Run, in}, {"validation", validation.Run, next}, {"preprocessing", preprocessing.Run, next}} {
		b.Run(c.name, func(b *testing.B) {
			var before, peak int64
			before = residentBytes()
			for b.Loop() {
				stage(b, c.run, c.in)
				peak = max(peak, residentBytes()-before)
			}
			seconds := b.Elapsed().Seconds() / float64(b.N)
			b.ReportMetric(float64(n)/seconds, "rows/s")
			b.ReportMetric(float64(info.Size())/1e6/seconds, "MB/s")
			b.ReportMetric(float64(peak)/1e6, "MB-RSS-growth")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// residentBytes is the largest resident set so far (VmHWM), 0 where it cannot be
// known.
func residentBytes() int64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	var kb int64
	for line := range strings.Lines(string(data)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
			return kb * 1024
		}
	}
	return 0
}
