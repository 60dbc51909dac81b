package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"github.com/tunemesh/tunemesh/trainer/jsonfault"
)

const (
	// SingleName is the file that holds a model that was not split.
	SingleName = "model.safetensors"
	// IndexName maps tensor names to shards.
	IndexName = "model.safetensors.index.json"

	maxIndexBytes = 100 << 20
)

// File is a set of tensors, read-only: one safetensors file, or the shards that
// an index names. It is safe for concurrent use until Close.
type File struct {
	shards   []*shard
	byName   map[string]entry
	names    []string
	metadata map[string]string
}

type entry struct {
	info TensorInfo
	data []byte // into the shard's mapping
}

// Open maps the weights at path: a .safetensors file, an index, or a model's
// folder, in which model.safetensors.index.json goes before model.safetensors.
func Open(path string) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("weights: open: %w", err)
	}
	if !st.IsDir() {
		if filepath.Ext(path) == ".json" {
			return openIndex(path)
		}
		return openShards([]string{path}, nil)
	}
	index := filepath.Join(path, IndexName)
	if _, err := os.Stat(index); err == nil {
		return openIndex(index)
	}
	single := filepath.Join(path, SingleName)
	if _, err := os.Stat(single); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("weights: %s holds neither %s nor %s: %w", path, SingleName, IndexName, fs.ErrNotExist)
	}
	return openShards([]string{single}, nil)
}

// ReadIndex reads an index: which file has which tensor.
func ReadIndex(path string) (map[string]string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("weights: index: %w", err)
	}
	if st.Size() > maxIndexBytes {
		return nil, fmt.Errorf("weights: index %s is %d bytes, more than %d", path, st.Size(), maxIndexBytes)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("weights: index: %w", err)
	}
	if IsPointer(raw) {
		return nil, fmt.Errorf("weights: index %s: %s", path, PointerFault)
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("weights: index %s: %w", path, jsonfault.Explain(raw, err))
	}
	if len(index.WeightMap) == 0 {
		return nil, fmt.Errorf("weights: index %s names no tensors; fetch or copy it again", path)
	}
	return index.WeightMap, nil
}

// openIndex opens the shards beside an index and checks that each tensor is in
// the shard that the index says, and that no shard holds one that it does not.
func openIndex(path string) (*File, error) {
	index, err := ReadIndex(path)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var files []string
	for tensor, file := range index {
		// A shard lies beside its index: a path out of the folder would read
		// whatever file the model's author wished.
		if file == "" || file != filepath.Base(file) || !filepath.IsLocal(file) {
			return nil, fmt.Errorf("weights: index %s: tensor %q: %q is not a file name", path, tensor, file)
		}
		if !seen[file] {
			seen[file] = true
			files = append(files, filepath.Join(filepath.Dir(path), file))
		}
	}
	sort.Strings(files)
	return openShards(files, index)
}

func openShards(files []string, want map[string]string) (_ *File, err error) {
	f := &File{byName: map[string]entry{}, metadata: map[string]string{}}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	for _, path := range files {
		s, err := openShard(path)
		if want != nil && errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("weights: %s is not there, though %s names it: the model is not whole; fetch or copy that file too", path, IndexName)
		}
		if err != nil {
			return nil, err
		}
		f.shards = append(f.shards, s)
		for k, v := range s.metadata {
			f.metadata[k] = v
		}
		for _, e := range s.entries {
			name := e.info.Name
			if _, dup := f.byName[name]; dup {
				return nil, fmt.Errorf("weights: tensor %q is in more than one shard", name)
			}
			if want != nil && want[name] != filepath.Base(path) {
				return nil, fmt.Errorf("weights: %s holds tensor %q, which the index places in %q", path, name, want[name])
			}
			f.byName[name] = e
			f.names = append(f.names, name)
		}
	}
	for name, file := range want {
		if _, ok := f.byName[name]; !ok {
			return nil, fmt.Errorf("weights: shard %s lacks tensor %q, which the index names", file, name)
		}
	}
	return f, nil
}

// Names lists the tensors: within a file in the order of their data, the shards
// in the order of their names. The slice is the caller's.
func (f *File) Names() []string { return append([]string(nil), f.names...) }

// Tensor gives one tensor's dtype ("F32", "F16", "BF16", ...), its shape and its
// bytes, little-endian and row-major. The bytes are the mapping itself: read-only
// (a write faults) and valid until Close.
func (f *File) Tensor(name string) (dtype string, shape []int, data []byte, err error) {
	e, ok := f.byName[name]
	if !ok {
		return "", nil, nil, fmt.Errorf("weights: no tensor %q", name)
	}
	return e.info.DType, append([]int(nil), e.info.Shape...), e.data, nil
}

// Info describes one tensor without touching its data.
func (f *File) Info(name string) (TensorInfo, bool) {
	e, ok := f.byName[name]
	if !ok {
		return TensorInfo{}, false
	}
	info := e.info
	info.Shape = append([]int(nil), info.Shape...)
	return info, true
}

// Metadata is the free-form __metadata__ of the header; a later shard's entry
// hides an earlier one's.
func (f *File) Metadata() map[string]string {
	m := make(map[string]string, len(f.metadata))
	for k, v := range f.metadata {
		m[k] = v
	}
	return m
}

// Float32 gives one tensor converted to float32, with its shape. It allocates;
// dtypes other than F32, F16 and BF16 are refused.
func (f *File) Float32(name string) ([]float32, []int, error) {
	dtype, shape, data, err := f.Tensor(name)
	if err != nil {
		return nil, nil, err
	}
	n := 1
	for _, d := range shape {
		n *= d
	}
	out := make([]float32, n)
	if err := ToF32(out, dtype, data); err != nil {
		return nil, nil, fmt.Errorf("weights: tensor %q: %w", name, err)
	}
	return out, shape, nil
}

// Close unmaps the files. Slices that Tensor returned must not be used after.
func (f *File) Close() error {
	var errs []error
	for _, s := range f.shards {
		errs = append(errs, s.close())
	}
	f.shards, f.byName, f.names = nil, nil, nil
	return errors.Join(errs...)
}
