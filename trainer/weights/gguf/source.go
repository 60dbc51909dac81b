package gguf

import (
	"fmt"
	"unsafe"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// Source gives the model in a file under Hugging Face's names, decoded tensor by
// tensor when it is asked for: what an engine reads of the file without importing it.
type Source struct {
	file   *File
	config modelConfig
	vocab  vocabulary
	jobs   map[string]importJob
	names  []string
}

// OpenSource opens a file that Import would accept.
func OpenSource(path string) (*Source, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	s := &Source{file: f, jobs: map[string]importJob{}}
	if err := s.read(); err != nil {
		f.Close()
		return nil, fmt.Errorf("gguf: read %s: %w", path, err)
	}
	return s, nil
}

func (s *Source) read() error {
	m := metadata{s.file}
	var err error
	if s.config, err = m.config(); err != nil {
		return err
	}
	if s.vocab, err = m.vocabulary(); err != nil {
		return err
	}
	jobs, err := s.config.imports(s.file)
	for _, j := range jobs {
		s.jobs[j.target] = j
		s.names = append(s.names, j.target)
	}
	return err
}

// Close closes the file.
func (s *Source) Close() error { return s.file.Close() }

// File is the file itself.
func (s *Source) File() *File { return s.file }

// ConfigJSON is the config.json that the metadata make.
func (s *Source) ConfigJSON() ([]byte, error) { return s.config.json(s.vocab, weights.F32) }

// TokenizerJSON is the tokenizer.json that the metadata make.
func (s *Source) TokenizerJSON() ([]byte, error) { return s.vocab.tokenizerJSON() }

// ChatTemplate is the Jinja text, "" without one.
func (s *Source) ChatTemplate() string { return s.vocab.chatTemplate }

// Names lists the tensors.
func (s *Source) Names() []string { return append([]string(nil), s.names...) }

// Tensor decodes one tensor to float32. A value that is no number is refused.
func (s *Source) Tensor(name string) (dtype string, shape []int, data []byte, err error) {
	j, ok := s.jobs[name]
	if !ok {
		return "", nil, nil, fmt.Errorf("gguf: no tensor for %s", name)
	}
	values, err := j.values(s.file)
	if err != nil {
		return "", nil, nil, fmt.Errorf("gguf: tensor %s: %w", j.info.Name, err)
	}
	if len(values) > 0 {
		data = unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), 4*len(values))
	}
	return weights.F32, append([]int(nil), j.info.Shape...), data, nil
}

// values decodes the whole tensor.
func (j importJob) values(f *File) ([]float32, error) {
	rows, err := f.Rows(j.info.Name)
	if err != nil {
		return nil, err
	}
	values := make([]float32, rows.Count*rows.Width)
	return values, j.decode(rows, values)
}

// decode reads all rows in Hugging Face's order, some at a time.
func (j importJob) decode(rows *Rows, dst []float32) error {
	step := min(rows.Count, max(1, importValues/max(1, rows.Width)))
	if j.heads > 0 {
		step = rows.Count / j.heads // a permutation stays within a head
	}
	sorted := make([]float32, step*rows.Width)
	for first := 0; first < rows.Count; first += step {
		n := min(step, rows.Count-first) * rows.Width
		part := dst[first*rows.Width:][:n]
		if err := rows.Read(part, first); err != nil {
			return err
		}
		if j.heads > 0 {
			for r := range step {
				to := permutedRow(r, step, 1)
				copy(sorted[to*rows.Width:(to+1)*rows.Width], part[r*rows.Width:])
			}
			copy(part, sorted)
		}
		if j.minus != 0 {
			for i := range part {
				part[i] -= j.minus
			}
		}
		if err := finite(part, weights.F32); err != nil {
			return err
		}
	}
	return nil
}

// Added is what the file has added to the values that Tensor gives: one to the norms
// of Gemma, else nothing.
func (s *Source) Added(name string) float32 { return s.jobs[name].minus }

// Kind is the format in which the file has a tensor.
func (s *Source) Kind(name string) (Type, bool) {
	j, ok := s.jobs[name]
	return j.info.Type, ok
}
