package export

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// proof is what every exported form has to agree with.
type proof struct {
	probes []model.Probe
	want   [][]float32 // the tuned model's logits
	bound  limit       // of the merged model's number format
	tok    *tokenizer.Tokenizer
	texts  []string // of the probes
	jinja  string   // the chat template
	stops  []string // the texts that end an answer
}

// texts renders the probes, for the tokenizers.
func (p *proof) render() {
	for _, probe := range p.probes {
		p.texts = append(p.texts, p.tok.Decode(probe.Tokens, false))
	}
}

// folder reads the merged model again and compares it with the tuned one.
func (p *proof) folder(ctx context.Context, dir, dtype string) (Parity, error) {
	s, err := tuned.OpenStream(dir)
	if err != nil {
		return Parity{}, fmt.Errorf("read %s again: %w", filepath.Base(dir), err)
	}
	defer s.Close()
	got, err := s.Logits(ctx, p.probes)
	if err != nil {
		return Parity{}, fmt.Errorf("read %s again: %w", filepath.Base(dir), err)
	}
	drift := compare(len(p.probes), dtype, p.bound, p.want, got)
	if err := drift.check(filepath.Base(dir)); err != nil {
		return drift, err
	}
	tok, _, err := tuned.Tokenizer(dir)
	if err != nil {
		return drift, err
	}
	jinja, _, err := template.Source(dir)
	if err != nil {
		return drift, err
	}
	return drift, p.text(filepath.Base(dir), tok, jinja)
}

// file reads a GGUF file again, by what it says of itself alone, and compares its
// weights with the merged model's, its logits with the tuned model's, its tokenizer
// with the base model's and its chat template with the one that was trained with.
func (p *proof) file(ctx context.Context, path, kind, merged string) (Parity, error) {
	name := filepath.Base(path)
	src, err := gguf.OpenSource(path)
	if err != nil {
		return Parity{}, differs("%s cannot be read again: %v", name, err)
	}
	defer src.Close()
	raw, err := src.ConfigJSON()
	if err != nil {
		return Parity{}, err
	}
	cfg, err := model.ParseConfig(raw)
	if err != nil {
		return Parity{}, differs("%s, read again, describes no model that can be computed: %v", name, err)
	}
	raw, err = src.TokenizerJSON()
	if err != nil {
		return Parity{}, err
	}
	tok, err := tokenizer.Parse(raw)
	if err != nil {
		return Parity{}, differs("%s, read again, has no tokenizer: %v", name, err)
	}
	if err := p.text(name, tok, src.ChatTemplate()); err != nil {
		return Parity{}, err
	}
	want, err := weights.Open(merged)
	if err != nil {
		return Parity{}, err
	}
	defer want.Close()
	checked := &checkedSource{Source: src, want: want, name: name, worst: map[string]float64{}}
	got, err := model.Streamed{Config: cfg, Source: checked}.Logits(ctx, p.probes)
	if err != nil {
		return Parity{}, err
	}
	if err := checked.rest(); err != nil {
		return Parity{}, err
	}
	drift := compare(len(p.probes), kind, wider(limits[kind], p.bound), p.want, got)
	drift.Types = src.File().Types()
	for tensor, e := range checked.worst {
		if e > drift.WorstRow || e == drift.WorstRow && tensor < drift.Tensor {
			drift.WorstRow, drift.Tensor = e, tensor
		}
	}
	return drift, drift.check(name)
}

// text compares tokenizer and chat template.
func (p *proof) text(name string, tok *tokenizer.Tokenizer, jinja string) error {
	if jinja != p.jinja {
		return differs("%s has another chat template than the model was trained with: %.80q, want %.80q", name, jinja, p.jinja)
	}
	for _, stop := range p.stops {
		want, known := p.tok.TokenID(stop)
		if got, ok := tok.TokenID(stop); known && (!ok || got != want) {
			return differs("%s lacks the token %q, which ends an answer (id %d of the base model's tokenizer)", name, stop, want)
		}
	}
	for _, text := range p.texts {
		if got, want := tok.Encode(text, false), p.tok.Encode(text, false); !slices.Equal(got, want) {
			return differs("the tokenizer of %s makes %v of %.60q, the base model's %v", name, clipIDs(got), text, clipIDs(want))
		}
	}
	return nil
}

func clipIDs(ids []int32) []int32 { return ids[:min(len(ids), 12)] }

// checkedSource compares every tensor that is read with the merged model's.
type checkedSource struct {
	*gguf.Source
	want  *weights.File
	name  string
	worst map[string]float64 // error of the worst row, by tensor
}

// Tensor decodes a tensor and refuses one with a row that is not the merged model's.
func (c *checkedSource) Tensor(name string) (string, []int, []byte, error) {
	dtype, shape, data, err := c.Source.Tensor(name)
	if err != nil {
		return dtype, shape, data, differs("%s, read again: %v", c.name, err)
	}
	if _, seen := c.worst[name]; seen {
		return dtype, shape, data, nil
	}
	from, ok := c.want.Info(name)
	if !ok || !slices.Equal(from.Shape, shape) {
		return "", nil, nil, differs("%s, read again, has %s of shape %v, the merged model has %v", c.name, name, shape, from.Shape)
	}
	defer c.want.Release(name)
	e, row, err := c.worstRow(name, from, data)
	if err != nil {
		return "", nil, nil, err
	}
	c.worst[name] = e
	kind, _ := c.Kind(name)
	if bound, ok := rowLimits[kind.String()]; ok && !(e <= bound) {
		return "", nil, nil, differs("%s, read again, differs from the merged model in %s: row %d is off by %.3g of its size, %s costs at most %.3g", c.name, name, row, e, kind, bound)
	}
	return dtype, shape, data, nil
}

// rest reads the tensors that the computation had no need of.
func (c *checkedSource) rest() error {
	for _, name := range c.Names() {
		if _, seen := c.worst[name]; !seen {
			if _, _, _, err := c.Tensor(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// worstRow compares all rows, over all cores. data are float32.
func (c *checkedSource) worstRow(name string, from weights.TensorInfo, data []byte) (worst float64, at int, err error) {
	_, _, want, err := c.want.Tensor(name)
	if err != nil {
		return 0, 0, err
	}
	rows, cols := 1, from.Shape[len(from.Shape)-1]
	for _, d := range from.Shape[:len(from.Shape)-1] {
		rows *= d
	}
	if rows == 0 || cols == 0 {
		return 0, 0, nil
	}
	workers := min(rows, runtime.GOMAXPROCS(0))
	type result struct {
		worst float64
		at    int
		err   error
	}
	results := make([]result, workers)
	var wait sync.WaitGroup
	for k := range workers {
		wait.Go(func() {
			got, ref := make([]float32, cols), make([]float32, cols)
			plus := c.Added(name) // the file has the sum, and is as exact as that allows
			res, stride := &results[k], len(want)/rows
			for r := k * rows / workers; r < (k+1)*rows/workers; r++ {
				if res.err = weights.ToF32(ref, from.DType, want[r*stride:(r+1)*stride]); res.err != nil {
					return
				}
				if res.err = weights.ToF32(got, weights.F32, data[4*r*cols:4*(r+1)*cols]); res.err != nil {
					return
				}
				for i := range got {
					got[i] += plus
					ref[i] += plus
				}
				if e := rowError(got, ref); !(e <= res.worst) {
					res.worst, res.at = e, r
				}
			}
		})
	}
	wait.Wait()
	for _, r := range results {
		if r.err != nil {
			return 0, 0, r.err
		}
		if !(r.worst <= worst) {
			worst, at = r.worst, r.at
		}
	}
	return worst, at, nil
}

// rowError is the root mean square of the differences as a share of the reference's.
func rowError(got, want []float32) float64 {
	diff, size := 0.0, 0.0
	for i, w := range want {
		d := float64(got[i]) - float64(w)
		diff, size = diff+d*d, size+float64(w)*float64(w)
	}
	floor := tinyWeight * tinyWeight * float64(len(want))
	return math.Sqrt(diff / max(size, floor))
}
