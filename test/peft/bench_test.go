package peft_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/engine/native"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// smol is the shape of SmolLM2-135M.
func smol() model.Config {
	c := llama()
	c.HiddenSize, c.IntermediateSize, c.NumLayers, c.NumHeads, c.NumKVHeads, c.HeadDim = 576, 1536, 30, 9, 3, 64
	c.VocabSize, c.MaxPositions, c.RopeTheta = 49152, 8192, 100000
	return c
}

// measured is what each side prints.
type measured struct {
	Seconds []float64 `json:"seconds"` // of each step
	Peak    int64     `json:"peak"`    // resident bytes of the process, at most
	Loss    float64   `json:"loss"`    // of the last step
}

const (
	benchRows, benchLength = 4, 128
	benchWarmup            = 2
)

// BenchmarkAgainstPyTorch makes LoRA steps (r=16, all-linear, 4 x 128 tokens, all of
// them targets, AdamW) with native and with plain PyTorch + PEFT in several settings,
// each in a process of its own, in turns, TUNEMESH_BENCH_ROUNDS times (3). What counts
// is the median over all steps: the machine may be shared.
func BenchmarkAgainstPyTorch(b *testing.B) {
	python := installed(b).Python
	rounds, steps := number("TUNEMESH_BENCH_ROUNDS", 3), number("TUNEMESH_BENCH_STEPS", 5)
	dir := b.TempDir()
	writeSmol(b, dir)
	cores := strconv.Itoa(runtime.NumCPU())
	// Threads that wait without spinning: on a machine that has other work, torch's
	// default is many times slower.
	passive := []string{"OMP_WAIT_POLICY=PASSIVE", "KMP_BLOCKTIME=0"}
	settings := []struct{ name, dtype, threads, attention, compile string }{
		{"pytorch-bf16-" + cores + "threads", "bf16", cores, "sdpa", "eager"},
		{"pytorch-f32-" + cores + "threads", "f32", cores, "sdpa", "eager"},
		{"pytorch-f32-1thread", "f32", "1", "sdpa", "eager"},
	}
	if os.Getenv("TUNEMESH_BENCH_COMPILE") != "" {
		settings = append(settings, settings[1])
		settings[len(settings)-1].name, settings[len(settings)-1].compile = "pytorch-f32-compiled", "compile"
	}
	ours := map[string]string{"native": "f32", "native-bf16": "bf16"} // training.compute
	b.ResetTimer()
	seconds, peak := map[string][]float64{}, map[string]int64{}
	add := func(name string, m measured) {
		seconds[name] = append(seconds[name], m.Seconds...)
		peak[name] = max(peak[name], m.Peak)
		b.Logf("%s: %.2f s a step, %d MB, loss %.4f", name, median(m.Seconds), m.Peak>>20, m.Loss)
	}
	for range rounds {
		for name, compute := range ours {
			add(name, ask(b, []string{"TUNEMESH_TEST_STAGE=bench", "TUNEMESH_BENCH_MODEL=" + dir, "TUNEMESH_BENCH_STEPS=" + strconv.Itoa(steps), "TUNEMESH_BENCH_COMPUTE=" + compute}, os.Args[0]))
		}
		for _, s := range settings {
			add(s.name, ask(b, passive, python, filepath.Join("testdata", "pytorch_bench.py"), dir, filepath.Join(dir, "batch.json"),
				s.dtype, s.threads, strconv.Itoa(benchWarmup), strconv.Itoa(steps), s.attention, s.compile))
		}
	}
	speed := func(name string) float64 { return benchRows * benchLength / median(seconds[name]) }
	best, bestF32, least := 0.0, 0.0, int64(0)
	for _, s := range settings {
		best = max(best, speed(s.name))
		if s.dtype == "f32" {
			bestF32 = max(bestF32, speed(s.name))
		}
		if least == 0 || peak[s.name] < least {
			least = peak[s.name]
		}
		b.Logf("%-40s %6.0f tokens/s %6d MB", s.name, speed(s.name), peak[s.name]>>20)
		b.ReportMetric(speed(s.name), s.name+"_tokens/s")
	}
	for name := range ours {
		b.Logf("%-40s %6.0f tokens/s %6d MB", name, speed(name), peak[name]>>20)
		b.ReportMetric(speed(name), name+"_tokens/s")
	}
	b.ReportMetric(float64(peak["native"])/1e6, "native_MB")
	b.ReportMetric(speed("native")/best, "times_pytorch's_best")
	b.ReportMetric(speed("native-bf16")/best, "bf16_times_pytorch's_best")
	b.ReportMetric(speed("native")/bestF32, "times_pytorch's_best_in_f32")
	b.ReportMetric(float64(peak["native"])/float64(least), "of_pytorch's_least_memory")
}

// ask runs a program, which prints what it measured as its last line.
func ask(b *testing.B, env []string, argv ...string) (m measured) {
	b.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%v: %v\n%s", argv, err, stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &m); err != nil {
		b.Fatalf("%v printed %q: %v", argv, out, err)
	}
	return m
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return v[len(v)/2]
}

func number(name string, without int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return without
}

// writeSmol writes random weights in BF16, and the batch.
func writeSmol(b *testing.B, dir string) {
	b.Helper()
	shape := smol()
	described, err := json.Marshal(shape)
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var tensors []weights.Tensor
	for _, spec := range shape.Tensors() {
		values := make([]float32, spec.Len())
		for i := range values {
			values[i] = 1
			if len(spec.Shape) > 1 {
				values[i] = float32(rng.NormFloat64() * 0.02)
			}
		}
		data := make([]byte, 2*len(values))
		if err := weights.FromF32(data, weights.BF16, values); err != nil {
			b.Fatal(err)
		}
		tensors = append(tensors, weights.Tensor{TensorInfo: weights.TensorInfo{Name: spec.Name, DType: weights.BF16, Shape: spec.Shape}, Data: data})
	}
	batch := make([][]int32, benchRows)
	for i := range batch {
		for range benchLength {
			batch[i] = append(batch[i], int32(rng.IntN(shape.VocabSize)))
		}
	}
	rows, err := json.Marshal(batch)
	if err != nil {
		b.Fatal(err)
	}
	for name, data := range map[string][]byte{"config.json": described, "batch.json": rows} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	if err := weights.WriteFile(filepath.Join(dir, weights.SingleName), tensors, map[string]string{"format": "pt"}); err != nil {
		b.Fatal(err)
	}
}

// benchNative is our side, in a process of its own.
func benchNative() error {
	dir := os.Getenv("TUNEMESH_BENCH_MODEL")
	var rows [][]int32
	data, err := os.ReadFile(filepath.Join(dir, "batch.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &rows); err != nil {
		return err
	}
	var batch []model.Sequence
	for _, tokens := range rows {
		w := make([]float32, len(tokens))
		for i := range w {
			w[i] = 1
		}
		batch = append(batch, model.Sequence{Tokens: tokens, Weights: w})
	}
	c := contract.Config{}.WithDefaults().Training
	c.LearningRate, c.BasePrecision, c.Compute = 1e-4, "bf16", os.Getenv("TUNEMESH_BENCH_COMPUTE")
	e, err := native.Open(context.Background(), engine.Spec{ModelName: "smol", ModelDir: dir, Shape: smol(), Training: c, Seed: 1, MaxTokens: benchRows * benchLength})
	if err != nil {
		return err
	}
	defer e.Close()
	var m measured
	for i := range benchWarmup + number("TUNEMESH_BENCH_STEPS", 5) {
		began := time.Now()
		u, err := e.Step(engine.Step{Micro: [][]model.Sequence{batch}, FirstMicro: uint64(i), Rate: 1e-4, MaxNorm: 1})
		if err != nil {
			return err
		}
		m.Loss = u.LossSum / float64(u.Targets)
		if i >= benchWarmup {
			m.Seconds = append(m.Seconds, time.Since(began).Seconds())
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kilobytes, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			m.Peak = kilobytes << 10
		}
	}
	out, err := json.Marshal(m)
	if err != nil {
		return err
	}
	fmt.Println(string(out))
	return nil
}
