package adapter

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

const (
	prefix  = "base_model.model."
	suffixA = ".lora_A.weight"
	suffixB = ".lora_B.weight"
)

// Tensor is one matrix of an adapter, row-major: A is [r, in], B is [out, r].
type Tensor struct {
	Name       string // as PEFT writes it
	Rows, Cols int
	Data       []float32
}

// NameA is the name of the A matrix of a module such as
// "model.layers.0.self_attn.q_proj".
func NameA(module string) string { return prefix + module + suffixA }

// NameB is the name of its B matrix.
func NameB(module string) string { return prefix + module + suffixB }

// Module takes a tensor's name apart: the module that it adapts and which of
// the two matrices it is.
func Module(name string) (module string, isB bool, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return "", false, false
	}
	if m, ok := strings.CutSuffix(rest, suffixA); ok {
		return m, false, true
	}
	if m, ok := strings.CutSuffix(rest, suffixB); ok {
		return m, true, true
	}
	return "", false, false
}

// Save writes an adapter into dir, which is made if it is missing. The tensors
// are stored as F32 in the order of their names, as PEFT's save_file does.
func Save(dir string, cfg Config, tensors []Tensor) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("adapter: save: %w", err)
	}
	sorted := append([]Tensor(nil), tensors...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Name < sorted[j].Name })
	infos := make([]weights.TensorInfo, len(sorted))
	for i, t := range sorted {
		if t.Rows*t.Cols != len(t.Data) {
			return fmt.Errorf("adapter: save: tensor %s is %d x %d but holds %d values", t.Name, t.Rows, t.Cols, len(t.Data))
		}
		infos[i] = weights.TensorInfo{Name: t.Name, DType: weights.F32, Shape: []int{t.Rows, t.Cols}}
	}
	w, err := weights.NewWriter(filepath.Join(dir, WeightsName), infos, cfg.Origin.Metadata())
	if err != nil {
		return fmt.Errorf("adapter: save: %w", err)
	}
	defer w.Abort()
	for _, t := range sorted {
		if err := w.WriteFloat32(t.Name, t.Data); err != nil {
			return fmt.Errorf("adapter: save: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("adapter: save: %w", err)
	}
	data, err := cfg.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, ConfigName), data, 0o644); err != nil {
		return fmt.Errorf("adapter: save: %w", err)
	}
	return nil
}

// Load reads an adapter: every A has its B, and their shapes fit the rank.
func Load(dir string) (Config, []Tensor, error) {
	cfg, err := ReadConfig(dir)
	if err != nil {
		return Config{}, nil, err
	}
	file, err := weights.Open(filepath.Join(dir, WeightsName))
	if err != nil {
		return Config{}, nil, fmt.Errorf("adapter: load: %w", err)
	}
	defer file.Close()
	cfg.Origin = originOf(file.Metadata())
	var tensors []Tensor
	halves := map[string]int{}
	for _, name := range file.Names() {
		module, isB, ok := Module(name)
		if !ok {
			return Config{}, nil, fmt.Errorf("adapter: load: tensor %q is not a LoRA matrix as PEFT names them", name)
		}
		data, shape, err := file.Float32(name)
		if err != nil {
			return Config{}, nil, fmt.Errorf("adapter: load: %w", err)
		}
		if len(shape) != 2 {
			return Config{}, nil, fmt.Errorf("adapter: load: tensor %q has shape %v, want two dimensions", name, shape)
		}
		rank, half := shape[0], 1
		if isB {
			rank, half = shape[1], 2
		}
		if rank != cfg.Rank {
			return Config{}, nil, fmt.Errorf("adapter: load: tensor %q has shape %v, which does not fit r = %d", name, shape, cfg.Rank)
		}
		halves[module] |= half
		tensors = append(tensors, Tensor{Name: name, Rows: shape[0], Cols: shape[1], Data: data})
	}
	for module, both := range halves {
		if both != 3 {
			return Config{}, nil, fmt.Errorf("adapter: load: module %s has only one of lora_A and lora_B", module)
		}
	}
	sort.Slice(tensors, func(i, j int) bool { return tensors[i].Name < tensors[j].Name })
	return cfg, tensors, nil
}
