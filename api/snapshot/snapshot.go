// Package snapshot is the file format of a backup of the control plane's state:
// what `snapshot save` writes and `snapshot restore` and `inspect` read. It
// knows frames, counts and checksums, and nothing of what the rows mean.
//
// A file is gzip (RFC 1952) around lines of JSON: a Header, the state's own
// lines, and a trailer with the SHA-256 of every byte before it. A file that was
// cut or changed is known as such before anything of it is believed.
package snapshot

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// Format and Version name the format; a program reads versions up to its own.
const (
	Format  = "tunemesh-snapshot"
	Version = 1
)

// MaxLine bounds one line in bytes: a row comes from entries of at most 256 KiB
// each, and the largest gathers a few.
const MaxLine = 64 << 20

// Errors of reading.
var (
	ErrFormat  = errors.New("this is no snapshot of a Tunemesh control plane")
	ErrNewer   = errors.New("the snapshot is of a newer version than this program reads")
	ErrDamaged = errors.New("the snapshot is damaged")
)

// Header is the file's first line.
type Header struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Index   uint64    `json:"index" doc:"Raft index of the state"`
	Term    uint64    `json:"term" doc:"Raft term in which it was taken"`
	TakenAt time.Time `json:"taken_at"`
	// Server is the id of the server that took it, Program its version.
	Server  string `json:"server"`
	Program string `json:"program"`
	// NotIncluded says in words what the file does not hold.
	NotIncluded []string `json:"not_included"`
}

type trailer struct {
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// Writer writes one file. Close ends it; without, it counts as damaged.
type Writer struct {
	zip  *gzip.Writer
	sum  hash.Hash
	size int64
}

// NewWriter writes the header. Format and version are filled in.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	h.Format, h.Version = Format, Version
	line, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("snapshot: header: %w", err)
	}
	out := &Writer{zip: gzip.NewWriter(w), sum: sha256.New()}
	_, err = out.Write(append(line, '\n'))
	return out, err
}

// Write takes the state's lines, in pieces of any size.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.zip.Write(p)
	w.sum.Write(p[:n])
	w.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("snapshot: write: %w", err)
	}
	return n, nil
}

// Close writes the trailer.
func (w *Writer) Close() error {
	line, err := json.Marshal(trailer{hex.EncodeToString(w.sum.Sum(nil)), w.size})
	if err == nil {
		_, err = w.zip.Write(append(line, '\n'))
	}
	if err = errors.Join(err, w.zip.Close()); err != nil {
		return fmt.Errorf("snapshot: write: %w", err)
	}
	return nil
}

// Reader reads the state's lines back. Its io.EOF comes only after the checksum
// was found right; until then nothing that was read may be used.
type Reader struct {
	header Header
	in     *bufio.Reader
	sum    hash.Hash
	size   int64
	ahead  []byte // one line, which may be the trailer
	rest   []byte // of the line that is being read
	err    error
}

// NewReader reads the header.
func NewReader(r io.Reader) (*Reader, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w (%v)", ErrFormat, err)
	}
	out := &Reader{in: bufio.NewReaderSize(zip, 64<<10), sum: sha256.New()}
	first, err := out.line()
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(first, &out.header) != nil || out.header.Format != Format {
		return nil, fmt.Errorf("snapshot: %w", ErrFormat)
	}
	if out.header.Version < 1 || out.header.Version > Version {
		return nil, fmt.Errorf("snapshot: version %d: %w", out.header.Version, ErrNewer)
	}
	out.count(first)
	out.ahead, err = out.line()
	return out, err
}

// Header returns the file's header.
func (r *Reader) Header() Header { return r.header }

func (r *Reader) count(line []byte) {
	r.sum.Write(line)
	r.size += int64(len(line))
}

// line reads one line with its end.
func (r *Reader) line() ([]byte, error) {
	var line []byte
	for {
		part, err := r.in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case len(line) > MaxLine:
			return nil, fmt.Errorf("snapshot: %w: a line is over %d bytes", ErrDamaged, MaxLine)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("snapshot: %w: it ends too early (%v)", ErrDamaged, err)
		}
	}
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err == nil {
			r.err = r.next()
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// next moves on by a line; the last one is the trailer.
func (r *Reader) next() error {
	if _, err := r.in.Peek(1); err == nil {
		r.rest = r.ahead
		r.count(r.rest)
		r.ahead, err = r.line()
		return err
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("snapshot: %w (%v)", ErrDamaged, err)
	}
	var t trailer
	if json.Unmarshal(r.ahead, &t) != nil || t.SHA256 == "" {
		return fmt.Errorf("snapshot: %w: it ends too early", ErrDamaged)
	}
	if got := hex.EncodeToString(r.sum.Sum(nil)); got != t.SHA256 || t.Bytes != r.size {
		return fmt.Errorf("snapshot: %w: SHA-256 %s of %d bytes, want %s of %d", ErrDamaged, got, r.size, t.SHA256, t.Bytes)
	}
	return io.EOF
}

// Summary is what Inspect finds.
type Summary struct {
	Header
	// Rows are counted by table.
	Rows   map[string]int `json:"rows"`
	SHA256 string         `json:"sha256" doc:"of the state alone: equal for equal states"`
	Bytes  int64          `json:"bytes" doc:"of the file, unpacked"`
}

// Inspect reads a whole file and checks it.
func Inspect(r io.Reader) (Summary, error) {
	in, err := NewReader(r)
	if err != nil {
		return Summary{}, err
	}
	s := Summary{Header: in.header, Rows: map[string]int{}}
	state := sha256.New()
	lines := bufio.NewReaderSize(io.TeeReader(in, state), 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var row struct {
				Table string `json:"t"`
			}
			if err := json.Unmarshal(line, &row); err != nil {
				return s, fmt.Errorf("snapshot: %w: %v", ErrDamaged, err)
			}
			if row.Table != "" {
				s.Rows[row.Table]++
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s, err
		}
	}
	s.SHA256, s.Bytes = hex.EncodeToString(state.Sum(nil)), in.size
	return s, nil
}
