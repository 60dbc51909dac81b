package tuned

import (
	"context"
	"fmt"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/kernel"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// Stream is a model that is read one tensor at a time, for what needs each of its
// weights once or twice: an export, a check of what was exported. Open loads a model
// to compute many tokens.
type Stream struct {
	Config  model.Config
	Files   *weights.File
	adapter map[string]adapter.Tensor // by name; nil without an adapter
	lora    *model.LoRAConfig
}

// StreamBase opens the base model.
func (f Files) StreamBase() (*Stream, error) { return OpenStream(f.Base) }

// StreamTuned opens the tuned model. A broken adapter is refused.
func (f Files) StreamTuned() (*Stream, error) {
	if f.Adapter == "" {
		return OpenStream(f.Full)
	}
	cfg, tensors, err := adapter.Load(f.Adapter)
	if err != nil {
		return nil, broken(err)
	}
	s, err := OpenStream(f.Base)
	if err != nil {
		return nil, err
	}
	lora := model.LoRAConfig{Rank: cfg.Rank, Alpha: cfg.Alpha, RSLoRA: cfg.UseRSLoRA, TargetModules: cfg.TargetModules}
	params, err := s.Config.InitialLoRA(lora, 0)
	if err != nil {
		err = broken(err)
	} else {
		s.adapter, err = Fit(cfg, tensors, params)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	s.lora = &lora
	return s, nil
}

// OpenStream opens the model in a Hugging Face folder.
func OpenStream(dir string) (*Stream, error) {
	cfg, err := Config(dir)
	if err != nil {
		return nil, err
	}
	files, err := weights.Open(dir)
	if err != nil {
		return nil, Unusable(err)
	}
	return &Stream{Config: cfg, Files: files}, nil
}

// Close unmaps the weights.
func (s *Stream) Close() error { return s.Files.Close() }

// Logits computes the logits after the probes' tokens, with one block in memory.
func (s *Stream) Logits(ctx context.Context, probes []model.Probe) ([][]float32, error) {
	return model.Streamed{Config: s.Config, Source: s.Files, LoRA: s.lora, Adapter: s.matrix}.Logits(ctx, probes)
}

func (s *Stream) matrix(name string) ([]float32, error) {
	t, ok := s.adapter[name]
	if !ok {
		return nil, broken(fmt.Errorf("the adapter lacks the matrix %s", name))
	}
	return t.Data, nil
}

// Adapts says whether the adapter changes a tensor.
func (s *Stream) Adapts(tensor string) bool { a, _ := s.halves(tensor); return a.Data != nil }

// halves are A [rank, in] and B [out, rank] of the adapter of a weight.
func (s *Stream) halves(tensor string) (a, b adapter.Tensor) {
	const suffix = ".weight"
	if s.adapter == nil || len(tensor) < len(suffix) {
		return a, b
	}
	module := tensor[:len(tensor)-len(suffix)]
	return s.adapter[adapter.NameA(module)], s.adapter[adapter.NameB(module)]
}

// AddAdapter adds the rows from first on of scale·B·A to rows, as many as it holds, in
// float64, as model.MergedTensor does: the bits are the same.
func (s *Stream) AddAdapter(tensor string, rows []float32, first int) {
	a, b := s.halves(tensor)
	if a.Data == nil || len(rows) == 0 {
		return
	}
	width, rank := a.Cols, a.Rows
	for r := range len(rows) / width {
		kernel.MergeRow(rows[r*width:(r+1)*width], b.Data[(first+r)*rank:(first+r+1)*rank], a.Data[:rank*width], s.lora.Scale())
	}
}
