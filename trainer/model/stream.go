package model

import (
	"context"
	"fmt"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// Streamed computes a model of which one block's weights are in memory at a time:
// for a check of a file that may be larger than the memory. Everything else is as
// in Load; adapters apply.
type Streamed struct {
	Config Config
	Source Source
	LoRA   *LoRAConfig // nil without an adapter
	// Adapter gives an adapter's matrix by the name that Param has.
	Adapter func(name string) ([]float32, error)
}

// Probe is a sequence, and the first of its tokens after which the logits are asked
// for; those after all later ones are too.
type Probe struct {
	Tokens []int32
	From   int
}

// Logits computes [probes' positions][vocab], probe after probe.
func (s Streamed) Logits(ctx context.Context, probes []Probe) ([][]float32, error) {
	if err := s.Config.Validate(); err != nil {
		return nil, err
	}
	shell := &Model{cfg: s.Config, arch: s.Config.arch(), eng: kernel.New(kernel.Best())}
	states := make([][]float32, len(probes)) // each probe's residual stream, [tokens, hidden]
	longest := 0
	for i, p := range probes {
		if len(p.Tokens) == 0 || len(p.Tokens) > s.Config.MaxPositions || p.From < 0 || p.From >= len(p.Tokens) {
			return nil, fmt.Errorf("model: stream: probe %d has %d tokens, from %d on, of a context of %d", i, len(p.Tokens), p.From, s.Config.MaxPositions)
		}
		if err := shell.checkTokens(p.Tokens); err != nil {
			return nil, fmt.Errorf("model: stream: probe %d: %w", i, err)
		}
		longest = max(longest, len(p.Tokens))
		var err error
		if states[i], err = s.embed(shell, p.Tokens); err != nil {
			return nil, err
		}
	}
	s.release(embedName)
	for l := range s.Config.NumLayers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, err := s.block(shell, l)
		if err != nil {
			return nil, err
		}
		for _, t := range m.ropes {
			t.reserve(longest)
		}
		for i, p := range probes {
			r := pack([]Sequence{{Tokens: p.Tokens}})
			out := make([]float32, len(states[i]))
			m.eng.With(func() { m.blockForward(0, m.layerActs(0, false), r, states[i], out) })
			states[i] = out
		}
		shell.work = m.work // the buffers go on to the next block
		for _, spec := range m.cfg.Tensors() {
			s.release(ofLayer(spec.Name, l))
		}
	}
	return s.head(shell, probes, states)
}

// embed reads the rows of the tokens alone.
func (s Streamed) embed(shell *Model, tokens []int32) ([]float32, error) {
	dtype, shape, data, err := s.Source.Tensor(embedName)
	if err != nil {
		return nil, fmt.Errorf("model: tensor %s: %w", embedName, err)
	}
	d := s.Config.HiddenSize
	if len(shape) != 2 || shape[0] != s.Config.VocabSize || shape[1] != d || len(data)%shape[0] != 0 {
		return nil, fmt.Errorf("model: tensor %s has shape %v, but config.json asks for [%d %d]", embedName, shape, s.Config.VocabSize, d)
	}
	stride := len(data) / shape[0]
	var rows []byte
	for _, t := range tokens {
		rows = append(rows, data[int(t)*stride:(int(t)+1)*stride]...)
	}
	w, err := readTensor(one{dtype, rows, []int{len(tokens), d}}, TensorSpec{Name: embedName, Shape: []int{len(tokens), d}})
	if err != nil {
		return nil, err
	}
	x := append([]float32(nil), w.float32s()...)
	shell.eng.With(func() { shell.scaleEmbedding(x) })
	return x, nil
}

// block builds the model of one layer alone.
func (s Streamed) block(shell *Model, l int) (*Model, error) {
	cfg := s.Config
	cfg.NumLayers = 1
	if len(cfg.LayerTypes) > 0 {
		cfg.LayerTypes = cfg.LayerTypes[l : l+1]
	}
	got := map[string]weights{}
	for _, spec := range cfg.Tensors() {
		if name := ofLayer(spec.Name, l); strings.HasPrefix(name, "model.layers.") {
			w, err := readTensor(s.Source, TensorSpec{Name: name, Shape: spec.Shape})
			if err != nil {
				return nil, err
			}
			got[spec.Name] = w
		}
	}
	m := build(cfg, got)
	m.eng, m.work = shell.eng, shell.work
	if s.LoRA == nil {
		return m, nil
	}
	if err := m.AddLoRA(*s.LoRA, 0); err != nil {
		return nil, err
	}
	for _, p := range m.params {
		name := strings.Replace(p.Name, "model.layers.0.", fmt.Sprintf("model.layers.%d.", l), 1)
		values, err := s.Adapter(name)
		if err != nil {
			return nil, err
		}
		if len(values) != len(p.Data) {
			return nil, fmt.Errorf("model: stream: %s has %d values, want %d", name, len(values), len(p.Data))
		}
		copy(p.Data, values)
	}
	return m, nil
}

// head computes the logits that are asked for.
func (s Streamed) head(m *Model, probes []Probe, states [][]float32) ([][]float32, error) {
	d, v := s.Config.HiddenSize, s.Config.VocabSize
	gain, err := readTensor(s.Source, TensorSpec{Name: normName, Shape: []int{d}})
	if err != nil {
		return nil, err
	}
	name := headName
	if s.Config.TieWordEmbeddings {
		name = embedName
	}
	m.head, err = readTensor(s.Source, TensorSpec{Name: name, Shape: []int{v, d}})
	if err != nil {
		return nil, err
	}
	m.norm = norm{weight: gain.float32s(), plusOne: m.arch.plusOne, sum: make([]float32, d)}
	var x []float32
	for i, p := range probes {
		x = append(x, states[i][p.From*d:]...)
	}
	n := len(x) / d
	out, flat := make([][]float32, n), make([]float32, n*v)
	m.eng.With(func() {
		hn := make([]float32, len(x))
		m.eng.RMSNorm(hn, make([]float32, n), x, m.norm.gain(), m.cfg.RMSNormEps)
		m.eng.Gemm(kernel.Product{C: kernel.F32(flat, n, v), Terms: []kernel.Term{{A: kernel.F32(hn, n, d), B: m.head.matrix(v, d).T()}}})
	})
	for i := range out {
		out[i] = flat[i*v : (i+1)*v : (i+1)*v]
	}
	s.release(name)
	return out, nil
}

func (s Streamed) release(name string) {
	if r, ok := s.Source.(Releaser); ok {
		r.Release(name)
	}
}

// ofLayer gives the name in layer l of a tensor of a model with one layer.
func ofLayer(name string, l int) string {
	rest, ok := strings.CutPrefix(name, "model.layers.0.")
	if !ok {
		return name
	}
	return fmt.Sprintf("model.layers.%d.%s", l, rest)
}

// one is a source of one tensor.
type one struct {
	dtype string
	data  []byte
	shape []int
}

func (o one) Names() []string { return nil }

func (o one) Tensor(string) (string, []int, []byte, error) { return o.dtype, o.shape, o.data, nil }
