//go:build unix

package model_test

import (
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/kernel"
	"github.com/tunemesh/tunemesh/trainer/model"
)

func BenchmarkTrainStep(b *testing.B) {
	qv, all := []string{"q_proj", "v_proj"}, []string{"all-linear"}
	for _, s := range []struct {
		name    string
		cfg     model.Config
		rank    int // 0: full training
		targets []string
		rows, n int
		answer  int // targets per row
		rounds  bool
	}{
		{"demo", demoShape(), 8, all, 8, 48, 16, false},
		{"demo-bf16", demoShape(), 8, all, 8, 48, 16, true},
		{"demo-full", demoShape(), 0, nil, 8, 96, 96, false},
		{"smollm2-135m", smolShape(), 16, qv, 4, 128, 64, false},
		{"smollm2-135m-bf16", smolShape(), 16, qv, 4, 128, 64, true},
		{"smollm2-135m-all", smolShape(), 16, all, 4, 128, 128, false},
		{"smollm2-135m-all-bf16", smolShape(), 16, all, 4, 128, 128, true},
	} {
		b.Run(s.name, func(b *testing.B) {
			m, err := model.Load(s.cfg, bf16Source{s.cfg})
			if err != nil {
				b.Fatal(err)
			}
			m.SetRounding(s.rounds)
			if s.rank > 0 {
				err = m.AddLoRA(model.LoRAConfig{Rank: s.rank, Alpha: 16, TargetModules: s.targets}, 1)
			} else {
				err = m.TrainAll()
			}
			if err != nil {
				b.Fatal(err)
			}
			var batch []model.Sequence
			for i := range s.rows {
				row := rowsOf(s.cfg.VocabSize, uint64(i), s.n)[0]
				for j := range row.Weights {
					row.Weights[j] = 0
					if j >= s.n-s.answer {
						row.Weights[j] = 1
					}
				}
				batch = append(batch, row)
			}
			step := func() {
				if _, _, err := m.LossAndGrad(batch); err != nil {
					b.Fatal(err)
				}
				m.ZeroGrad()
			}
			step() // buffers
			peak, peakCPU := peak(b)
			used := processorSeconds(b)
			for b.Loop() {
				step()
			}
			sec := b.Elapsed().Seconds() / float64(b.N)
			cpu := (processorSeconds(b) - used) / float64(b.N)
			tokens := float64(s.rows * s.n)
			b.ReportMetric(tokens/sec, "tokens/s")
			linear := flops(s.cfg, tokens, float64(s.rows*s.answer), s.rank == 0) / 1e9
			all := linear + others(s.cfg, s.rank, s.targets, float64(s.rows), float64(s.n))/1e9
			b.ReportMetric(linear/sec, "GFLOP/s")
			b.ReportMetric(all/sec, "all-GFLOP/s")
			if !s.rounds && peak > 0 {
				b.ReportMetric(peak, "peak-GFLOP/s")
				b.ReportMetric(100*all/sec/peak, "%-of-peak")
				b.ReportMetric(100*all/cpu/peakCPU, "%-of-peak-by-cpu")
			}
		})
	}
}

func BenchmarkGenerate(b *testing.B) {
	for _, s := range []struct {
		name      string
		cfg       model.Config
		precision model.Precision
	}{{"demo", demoShape(), model.Stored}, {"smollm2-135m", smolShape(), model.Stored}, {"smollm2-135m-q8", smolShape(), model.Q8}} {
		cfg := s.cfg
		b.Run(s.name, func(b *testing.B) {
			m, err := model.LoadAs(cfg, bf16Source{cfg}, s.precision)
			if err != nil {
				b.Fatal(err)
			}
			prompt := rowsOf(cfg.VocabSize, 1, 64)[0].Tokens
			const n = 32
			for b.Loop() {
				if _, err := m.NewSession().Greedy(prompt, n, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// peak is the rate of float32 multiply-adds that all processors together reach in
// registers just now, in GFLOP/s by the clock, and by the second of processor time.
func peak(b *testing.B) (rate, byCPU float64) {
	isa := min(kernel.Best(), kernel.AVX512) // of float32
	e, workers := kernel.New(isa), runtime.GOMAXPROCS(0)
	for range 5 { // of which the best
		done := make([]float64, workers)
		began, used := time.Now(), processorSeconds(b)
		e.Parallel(4*workers, func(w, _ int) { done[w] += kernel.Peak(isa, 1_000_000) })
		sum := 0.0
		for _, d := range done {
			sum += d / 1e9
		}
		rate, byCPU = max(rate, sum/time.Since(began).Seconds()), max(byCPU, sum/(processorSeconds(b)-used))
	}
	return rate, byCPU
}

func processorSeconds(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// others counts the multiply-adds, twice, of adapters (two matrices: forward, the
// gradients of their inputs and their own) and of causal attention (two products on the
// way forth and five on the way back, over half of a square).
func others(c model.Config, rank int, targets []string, rows, length float64) float64 {
	adapters := 0.0
	for _, s := range c.Tensors() {
		if rank == 0 || !strings.HasSuffix(s.Name, "_proj.weight") {
			continue
		}
		name := strings.TrimSuffix(s.Name[strings.LastIndex(strings.TrimSuffix(s.Name, ".weight"), ".")+1:], ".weight")
		if targets[0] == "all-linear" || slices.Contains(targets, name) {
			adapters += float64(rank * (s.Shape[0] + s.Shape[1]))
		}
	}
	square := rows * length * (length + 1) / 2 * float64(c.HeadDim*c.NumHeads*c.NumLayers)
	return 6*adapters*rows*length + 2*7*square
}

// flops counts the multiply-adds of one step's linear layers, twice: forward and
// the gradient of the input, plus that of the weights in full training.
func flops(c model.Config, tokens, targets float64, full bool) float64 {
	passes := 4.0
	if full {
		passes = 6
	}
	head := float64(c.VocabSize * c.HiddenSize)
	linear := -head
	for _, s := range c.Tensors() {
		if len(s.Shape) == 2 {
			linear += float64(s.Len())
		}
	}
	if !c.TieWordEmbeddings {
		linear -= head
	}
	return passes * (linear*tokens + head*targets)
}

// BenchmarkTrainStepByPrecision is the step of SmolLM2-135M's shape with its base
// in each precision.
func BenchmarkTrainStepByPrecision(b *testing.B) {
	cfg := smolShape()
	for _, p := range []model.Precision{model.F32, model.BF16, model.Int8, model.Int4} {
		b.Run(string(p), func(b *testing.B) {
			m, err := model.LoadAs(cfg, bf16Source{cfg}, p)
			if err != nil {
				b.Fatal(err)
			}
			if err := m.AddLoRA(model.LoRAConfig{Rank: 16, Alpha: 16, TargetModules: []string{"all-linear"}}, 1); err != nil {
				b.Fatal(err)
			}
			batch := rowsOf(cfg.VocabSize, 1, 128, 128, 128, 128)
			for b.Loop() {
				if _, _, err := m.LossAndGrad(batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(512*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
