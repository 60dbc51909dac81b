package models_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	judge "github.com/tunemesh/tunemesh/test/gguf"
	"github.com/tunemesh/tunemesh/trainer/importer"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

const (
	speedPrompt = 64  // tokens read
	speedTokens = 128 // tokens written
	speedRounds = 3
)

// BenchmarkGenerationAgainstLlamaCpp writes 128 tokens after a prompt of 64 with
// SmolLM2-135M, greedily: this program's sessions and llama.cpp in turn, so that
// what else the machine does meets both alike. Both have one thread, then two, if there
// are two processors. One run is all there is: -benchtime 1x. Each figure is the median
// of TUNEMESH_BENCH_ROUNDS, three if not said. On a machine that others use too, only
// the processor time with one thread tells something: threads that wait for each other
// spin.
//
// The weights of a pair take about the same bytes: bfloat16 against F16, and 8-bit
// codes with a scale for 32, which are multiplied as integers on both sides.
func BenchmarkGenerationAgainstLlamaCpp(b *testing.B) {
	j, source := judge.New(b), smolLM2(b)
	dir := filepath.Join(b.TempDir(), "model")
	if _, err := importer.Import(context.Background(), source, dir, importer.Options{DType: weights.BF16}); err != nil {
		b.Fatal(err)
	}
	tok, _, err := tuned.Tokenizer(dir)
	if err != nil {
		b.Fatal(err)
	}
	prompt := tok.Encode(strings.Repeat("The printer on the third floor does not answer, and nobody knows why. ", 8), false)[:speedPrompt]
	for _, pair := range []struct {
		ours   model.Precision
		theirs string
	}{{model.BF16, "F16"}, {model.Q8, "Q8_0"}} {
		file := filepath.Join(b.TempDir(), "model.gguf")
		if err := gguf.Export(b.Context(), dir, file, gguf.Options{Type: pair.theirs}); err != nil {
			b.Fatal(err)
		}
		for threads := 1; threads <= min(2, runtime.NumCPU()); threads++ {
			b.Run(fmt.Sprintf("%s-%s/threads=%d", pair.ours, pair.theirs, threads), func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
				against(b, j, dir, file, pair.ours, prompt)
			})
		}
	}
}

// against lets both write, in turn.
func against(b *testing.B, j *judge.Judge, dir, file string, p model.Precision, prompt []int32) {
	for b.Loop() {
		var ours, theirs []judge.Speed
		for range rounds(b) {
			ours = append(ours, speed(b, dir, p, prompt))
			s, err := j.Speed(b.Context(), file, prompt, speedTokens, runtime.GOMAXPROCS(0))
			if err != nil {
				b.Fatal(err)
			}
			if len(s.Tokens) != speedTokens {
				b.Fatalf("llama.cpp wrote %d tokens, not %d", len(s.Tokens), speedTokens)
			}
			theirs = append(theirs, s)
		}
		// The arithmetic differs in its last digits, so the texts may part, but late.
		same := 0
		for same < speedTokens && ours[0].Tokens[same] == theirs[0].Tokens[same] {
			same++
		}
		if same < 4 {
			b.Errorf("the texts part after %d tokens: %v and %v", same, ours[0].Tokens[:8], theirs[0].Tokens[:8])
		}
		b.Logf("the first %d of %d tokens are the same", same, speedTokens)
		report(b, "ours", ours)
		report(b, "llama.cpp", theirs)
	}
}

// rounds is how often each side writes.
func rounds(b *testing.B) int {
	b.Helper()
	text := os.Getenv("TUNEMESH_BENCH_ROUNDS")
	if text == "" {
		return speedRounds
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("TUNEMESH_BENCH_ROUNDS is %q, want a number of rounds", text)
	}
	return n
}

// speed is judge.Speed of this program.
func speed(b *testing.B, dir string, p model.Precision, prompt []int32) judge.Speed {
	b.Helper()
	began := time.Now()
	config, err := tuned.Config(dir)
	if err != nil {
		b.Fatal(err)
	}
	f, err := weights.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	m, err := model.LoadAs(config, f, p)
	if err != nil {
		b.Fatal(err)
	}
	s := judge.Speed{Load: time.Since(began).Seconds()}
	began = time.Now()
	session, next, used := m.NewSession(), prompt, 0.0
	for len(s.Tokens) < speedTokens {
		logits, err := session.Append(next)
		if err != nil {
			b.Fatal(err)
		}
		best := int32(0)
		for i, v := range logits {
			if v > logits[best] {
				best = int32(i)
			}
		}
		if s.Tokens = append(s.Tokens, best); len(s.Tokens) == 1 {
			s.Prompt = time.Since(began).Seconds()
			began, used = time.Now(), processorTime(b)
		}
		next = []int32{best}
	}
	s.Decode, s.CPU = time.Since(began).Seconds(), processorTime(b)-used
	return s
}

// processorTime is what this process has used, in seconds.
func processorTime(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func report(b *testing.B, who string, runs []judge.Speed) {
	b.Helper()
	median := func(f func(judge.Speed) float64) float64 {
		var all []float64
		for _, r := range runs {
			all = append(all, f(r))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	b.ReportMetric(median(judge.Speed.TokensPerSecond), who+"-tok/s")
	b.ReportMetric(1000*median(func(s judge.Speed) float64 { return s.CPU / (speedTokens - 1) }), who+"-cpu-ms/tok")
	b.ReportMetric(1000*median(func(s judge.Speed) float64 { return s.Prompt }), who+"-prompt-ms")
	b.ReportMetric(1000*median(func(s judge.Speed) float64 { return s.Load }), who+"-load-ms")
}
