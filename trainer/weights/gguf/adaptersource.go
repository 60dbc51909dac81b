package gguf

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/adapter"
)

// AdapterSource gives the LoRA adapter in a GGUF file under PEFT's names, a matrix when
// it is asked for: what an engine reads of the file to put it over its base model.
type AdapterSource struct {
	Rank    int
	Alpha   float64  // the file's: its matrices are scaled by Alpha / Rank
	Targets []string // the modules that it adapts in any layer: q_proj, ...

	file *File
	jobs map[string]importJob // by PEFT's name
}

// OpenAdapter opens a file that llama.cpp's --lora would accept over the base model in
// baseDir, of which config.json is read. A matrix that has no place there, does not fit
// or lacks its other half is refused. Layout: llama_adapter_lora_init_impl in
// llama.cpp's src/llama-adapter.cpp.
func OpenAdapter(path, baseDir string) (*AdapterSource, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	s := &AdapterSource{file: f, jobs: map[string]importJob{}}
	if err := s.read(baseDir); err != nil {
		f.Close()
		return nil, fmt.Errorf("gguf: read adapter %s: %w", path, err)
	}
	return s, nil
}

func (s *AdapterSource) read(baseDir string) error {
	config, err := readConfig(baseDir)
	if err != nil {
		return err
	}
	for _, want := range []KV{{"general.type", "adapter"}, {"adapter.type", "lora"}, {"general.architecture", config.family.name}} {
		if got, _ := s.file.Value(want.Key); got != want.Value {
			return fmt.Errorf("%s is %v, want %v", want.Key, got, want.Value)
		}
	}
	alpha, _ := s.file.Value("adapter.lora.alpha")
	value, ok := alpha.(float32)
	if s.Alpha = float64(value); !ok || !(s.Alpha > 0) || math.IsInf(s.Alpha, 0) {
		return fmt.Errorf("adapter.lora.alpha is %v, want a positive number", alpha)
	}
	for _, info := range s.file.Tensors() {
		if err := s.add(config, info); err != nil {
			return err
		}
	}
	return s.paired()
}

// add finds the place of one tensor.
func (s *AdapterSource) add(config modelConfig, info TensorInfo) error {
	weight, isA := strings.CutSuffix(info.Name, ".weight.lora_a")
	weight, isB := strings.CutSuffix(weight, ".weight.lora_b")
	var layer int
	var name string
	if rest, ok := strings.CutPrefix(weight, "blk."); ok {
		number, tail, _ := strings.Cut(rest, ".")
		if _, err := fmt.Sscanf(number, "%d", &layer); err == nil && fmt.Sprint(layer) == number && layer < config.Layers {
			name = tail
		}
	}
	at := slices.IndexFunc(config.projections(), func(p projection) bool { return p.name == name })
	if isA == isB || at < 0 {
		return fmt.Errorf("tensor %s adapts no linear layer of the %d layers", info.Name, config.Layers)
	}
	p := config.projections()[at]
	module := fmt.Sprintf("model.layers.%d.%s", layer, p.source)
	job, inner, outer, want := importJob{info: info, target: adapter.NameA(module)}, 0, 1, p.in
	if isB {
		job.target, job.heads = adapter.NameB(module), p.heads
		inner, outer, want = 1, 0, p.out
	}
	if len(info.Shape) != 2 || info.Shape[outer] != want || info.Shape[inner] < 1 || !info.Type.Decodes() {
		return fmt.Errorf("tensor %s is %s of shape %v, which does not fit the base model's %d x %d", info.Name, info.Type, info.Shape, p.out, p.in)
	}
	if s.Rank == 0 {
		s.Rank = info.Shape[inner]
	}
	if info.Shape[inner] != s.Rank {
		return fmt.Errorf("tensor %s has the rank %d, others have %d", info.Name, info.Shape[inner], s.Rank)
	}
	if target := p.source[strings.LastIndexByte(p.source, '.')+1:]; !slices.Contains(s.Targets, target) {
		s.Targets = append(s.Targets, target)
	}
	s.jobs[job.target] = job
	return nil
}

// paired refuses an A without its B, a B without its A, and a file without either.
func (s *AdapterSource) paired() error {
	if len(s.jobs) == 0 {
		return fmt.Errorf("it holds no matrix")
	}
	for name, job := range s.jobs {
		module, isB, _ := adapter.Module(name)
		other := adapter.NameB(module)
		if isB {
			other = adapter.NameA(module)
		}
		if _, ok := s.jobs[other]; !ok {
			return fmt.Errorf("tensor %s lacks its other half", job.info.Name)
		}
	}
	return nil
}

// Close closes the file.
func (s *AdapterSource) Close() error { return s.file.Close() }

// Matrices is how many matrices the file holds.
func (s *AdapterSource) Matrices() int { return len(s.jobs) }

// Matrix decodes one matrix by PEFT's name, its rows in Hugging Face's order. A value
// that is no number is refused.
func (s *AdapterSource) Matrix(name string) ([]float32, error) {
	job, ok := s.jobs[name]
	if !ok {
		return nil, fmt.Errorf("gguf: the adapter has no matrix %s", name)
	}
	values, err := job.values(s.file)
	if err != nil {
		return nil, fmt.Errorf("gguf: tensor %s: %w", job.info.Name, err)
	}
	return values, nil
}
