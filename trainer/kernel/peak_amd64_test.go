package kernel_test

import (
	"runtime"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// BenchmarkPeak measures the f32 multiply-add rate of all processors together,
// against which BenchmarkGEMM of the same run is to be read.
func BenchmarkPeak(b *testing.B) {
	for isa := kernel.AVX2; isa <= kernel.Best(); isa++ {
		b.Run(isa.String(), func(b *testing.B) {
			e, workers := kernel.New(isa), runtime.GOMAXPROCS(0)
			done := make([]float64, workers)
			for b.Loop() {
				e.Parallel(4*workers, func(w, _ int) { done[w] += kernel.Peak(isa, 200000) })
			}
			var sum float64
			for _, d := range done {
				sum += d
			}
			b.ReportMetric(sum/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}
