package weights

import (
	"fmt"
	"os"
)

// shard is one mapped safetensors file.
type shard struct {
	image    []byte
	unmap    func() error
	entries  []entry
	metadata map[string]string
}

func openShard(path string) (_ *shard, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("weights: open: %w", err)
	}
	defer f.Close() // a mapping outlives its descriptor
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("weights: open: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("weights: %s is not a regular file", path)
	}
	if st.Size() < 8 || int64(int(st.Size())) != st.Size() {
		return nil, fmt.Errorf("weights: %s: a file of %d bytes cannot be safetensors; fetch or copy it again", path, st.Size())
	}
	image, unmap, err := mapFile(f, int(st.Size()))
	if err != nil {
		return nil, fmt.Errorf("weights: map %s: %w", path, err)
	}
	s := &shard{image: image, unmap: unmap}
	if IsPointer(image) {
		s.close()
		return nil, fmt.Errorf("weights: %s: %s", path, PointerFault)
	}
	if s.entries, s.metadata, err = parse(image); err != nil {
		s.close()
		return nil, fmt.Errorf("weights: %s: %w; the file is damaged or not whole: fetch or copy it again", path, err)
	}
	return s, nil
}

func (s *shard) close() error {
	if s.image == nil {
		return nil
	}
	s.image, s.entries = nil, nil
	return s.unmap()
}
