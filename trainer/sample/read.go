package sample

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxLine bounds what a Reader keeps of a file that is not ours.
const maxLine = 64 << 20

// Reader reads JSON lines one by one.
type Reader struct {
	r    *bufio.Reader
	line int64
	long []byte // a line larger than r's buffer
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, flushAt)} }

// Next decodes the next sample into s, whose slices it reuses. It returns
// io.EOF after the last one; any other error names the line.
func (r *Reader) Next(s *Sample) error {
	for {
		line, err := r.nextLine()
		if err != nil {
			return err
		}
		if len(line) == 0 {
			continue
		}
		if !decodeFast(line, s) { // not as our Writer writes it: still JSON, perhaps
			*s = Sample{}
			if err := json.Unmarshal(line, s); err != nil {
				return fmt.Errorf("samples: line %d: %w", r.line, err)
			}
		}
		if err := s.Check(); err != nil {
			return fmt.Errorf("samples: line %d: %w", r.line, err)
		}
		return nil
	}
}

func (r *Reader) nextLine() ([]byte, error) {
	r.line++
	r.long = r.long[:0]
	for {
		part, err := r.r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if len(r.long)+len(part) > maxLine {
				return nil, fmt.Errorf("samples: line %d is longer than %d bytes", r.line, maxLine)
			}
			r.long = append(r.long, part...)
			continue
		}
		if err != nil && !(errors.Is(err, io.EOF) && len(part)+len(r.long) > 0) {
			return nil, err // io.EOF as it is
		}
		if len(r.long) > 0 {
			r.long = append(r.long, part...)
			part = r.long
		}
		for len(part) > 0 && (part[len(part)-1] == '\n' || part[len(part)-1] == '\r') {
			part = part[:len(part)-1]
		}
		return part, nil
	}
}

// ReadFile reads all samples of a file; limit 0 means all. For splits that fit
// into memory: a sample takes about 4 bytes a token besides its texts.
func ReadFile(path string, limit int) ([]Sample, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("samples: %w", err)
	}
	defer f.Close()
	r := NewReader(f)
	var all []Sample
	for limit == 0 || len(all) < limit {
		var s Sample
		if err := r.Next(&s); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, s)
	}
	return all, nil
}
