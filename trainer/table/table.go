package table

import (
	"errors"
	"io"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// Kinds of files.
const (
	CSV   = "csv"
	TSV   = "tsv"
	JSONL = "jsonl"
)

// Limits that no option changes.
const (
	maxColumns  = 10_000
	maxRowBytes = 64 << 20 // beside one cell at its own limit
	bufferSize  = 256 << 10
)

// Format is how a file is laid out.
type Format struct {
	Kind      string `json:"kind"`                // csv, tsv or jsonl
	Delimiter string `json:"delimiter,omitempty"` // of csv and tsv
	BOM       bool   `json:"bom,omitempty"`       // the file starts with U+FEFF

	separatorLine int // bytes of Excel's first line "sep=;"
}

// Options say how to read. The zero value detects everything.
type Options struct {
	Name         string // the file's name, for messages and as a hint of its format
	Kind         string // "", "auto", csv, tsv or jsonl
	Delimiter    string // of csv; "": found
	MaxCellBytes int64  // default 1 MiB
	MaxRows      int64  // data rows; default 10,000,000
	// Nested names JSONL keys whose value may be an object or array; its JSON text
	// is the cell. Any other nested value is refused.
	Nested []string
	// Canonical gives such a text in one spelling: sorted keys, no white space.
	Canonical bool
}

// Reader gives the rows of a file, one by one.
type Reader interface {
	// Format is what was found or named.
	Format() Format
	// Columns are the header's names; for JSONL the keys of the first rows.
	Columns() []string
	// Next returns the next row's cells, one for each column. The slice is used
	// again by the next call, the strings are not. io.EOF ends the file; any
	// other error is a *contract.Error or the underlying reader's own, and final.
	Next() ([]string, error)
	// Row is the number of the row that Next gave: records from 1, of which a
	// CSV header is the first.
	Row() int64
	// Line is the line on which that row starts, from 1.
	Line() int64
	// Offset is how many bytes have been taken from the underlying reader.
	Offset() int64
}

// Open finds the format, reads the header and returns a Reader.
func Open(r io.Reader, o Options) (Reader, error) {
	if o.MaxCellBytes <= 0 {
		o.MaxCellBytes = 1 << 20
	}
	if o.MaxRows <= 0 {
		o.MaxRows = 10_000_000
	}
	src := &source{r: r, buf: make([]byte, bufferSize)}
	if err := src.fillWindow(); err != nil {
		return nil, err
	}
	format, err := detect(src.window(), src.eof, o)
	if err != nil {
		return nil, err
	}
	if format.BOM {
		src.pos += len(utf8BOM)
	}
	line := int64(1)
	if format.separatorLine > 0 {
		src.pos += format.separatorLine
		line++
	}
	if format.Kind == JSONL {
		return openJSONL(src, format, o)
	}
	return openCSV(src, format, o, line)
}

// source is a window that slides over the file.
type source struct {
	r        io.Reader
	buf      []byte
	pos, end int
	offset   int64
	eof      bool
}

func (s *source) window() []byte { return s.buf[s.pos:s.end] }

// fill moves what is left to the front and reads on, once. It leaves the window
// as it is if that is full or the file has ended.
func (s *source) fill() error {
	if s.eof {
		return nil
	}
	if s.pos > 0 {
		s.end = copy(s.buf, s.buf[s.pos:s.end])
		s.pos = 0
	}
	for tries := 0; s.end < len(s.buf); tries++ {
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		s.offset += int64(n)
		if errors.Is(err, io.EOF) {
			s.eof = true
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 {
			return nil
		}
		if tries == 100 {
			return io.ErrNoProgress
		}
	}
	return nil
}

// fillWindow reads until the window is full or the file has ended.
func (s *source) fillWindow() error {
	for !s.eof && s.end-s.pos < len(s.buf) {
		if err := s.fill(); err != nil {
			return err
		}
	}
	return nil
}

// more says whether there is another byte at pos, reading on if needed.
func (s *source) more() (bool, error) {
	for s.pos == s.end {
		if s.eof {
			return false, nil
		}
		if err := s.fill(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// fault makes the error of a file that cannot be used.
func fault(o Options, code, message, hint string) *contract.Error {
	return &contract.Error{Class: contract.ClassBadInput, Code: code, Message: message, File: o.Name, Hint: hint}
}
