package export_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/export"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// BenchmarkExport runs the whole stage over a model of 96 million parameters in BF16
// and reports what it measures itself: MB of the merged model in a second, for the
// merge and for each format, without the proofs. The time of an operation is that of
// the stage with them. On a shared machine the best of several runs says most.
func BenchmarkExport(b *testing.B) {
	in := tunedtest.Job(b, tunedtest.Tickets(60), `{"model":"synthetic","export":{"gguf":["f32","f16","bf16","q8_0","q4_k_m"]}}`, weights.BF16)
	dir, err := in.Dir(contract.ModelInputs, "")
	if err != nil {
		b.Fatal(err)
	}
	enlarge(b, dir, 24, 512, weights.BF16)
	tunedtest.AddAdapter(b, &in, 0.02, nil)
	in.Stage = "export"
	best := map[string]float64{}
	for b.Loop() {
		in.OutputDir = b.TempDir()
		result, err := export.Run(context.Background(), in, contract.NewEmitter(io.Discard, "ExportAgent", time.Now))
		if err != nil {
			b.Fatal(err)
		}
		for name, value := range result.Metrics {
			if form, ok := strings.CutSuffix(name, "_mb_per_second"); ok {
				best[form] = max(best[form], value)
			}
		}
	}
	for form, value := range best {
		b.ReportMetric(value, form+"-MB/s")
	}
}
