package table

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// sampleRows is how many rows of a JSONL file the columns are taken from.
const sampleRows = 200

// jsonlReader reads one flat JSON object a line.
type jsonlReader struct {
	src       *source
	o         Options
	format    Format
	columns   []string
	index     map[string]int
	cells     []string
	set       []bool
	long      []byte // a line larger than the window
	first     []byte // the first row, if Open had to read it apart
	firstLine int64
	maxLine   int64
	row       int64
	line      int64
	ignored   map[string]bool
	err       error
}

// openJSONL takes the columns from the rows that lie in the first window, and
// from the first row even if it is larger. A broken row ends that look ahead:
// Next will come to it and say what is wrong.
func openJSONL(src *source, format Format, o Options) (*jsonlReader, error) {
	j := &jsonlReader{src: src, o: o, format: format, index: map[string]int{}, maxLine: 4*o.MaxCellBytes + bufferSize}
	rest, rows, number := src.window(), 0, int64(0)
	for rows < sampleRows && len(rest) > 0 {
		line, tail, whole := bytes.Cut(rest, []byte{'\n'})
		if !whole && !src.eof {
			break
		}
		number++
		rest = tail
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		rows++
		j.row, j.line = int64(rows), number
		if err := j.parse(string(line), true, !whole); err != nil {
			if rows == 1 {
				return nil, err
			}
			break
		}
	}
	if rows == 0 {
		if src.eof {
			return nil, fault(o, "EMPTY_FILE", "the file holds nothing but empty lines", "upload a file with one JSON object a line")
		}
		if err := j.readFirst(); err != nil {
			return nil, err
		}
	}
	if len(j.columns) == 0 {
		return nil, j.fault("NO_COLUMNS", "the first rows have no keys", "", "each line must be an object with the same keys: {\"text\": \"...\", \"label\": \"...\"}")
	}
	if len(j.columns) > maxColumns {
		return nil, j.fault("TOO_MANY_COLUMNS", fmt.Sprintf("the rows have more than %d different keys", maxColumns), "", "each line must be an object with the same keys")
	}
	j.row, j.line = 0, max(0, j.firstLine-1)
	return j, nil
}

// readFirst reads a first row that is larger than the window and keeps it for
// Next.
func (j *jsonlReader) readFirst() error {
	for {
		line, last, err := j.readLine()
		if err != nil {
			if err == io.EOF {
				return fault(j.o, "EMPTY_FILE", "the file holds nothing but empty lines", "upload a file with one JSON object a line")
			}
			return err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		j.row, j.firstLine = 1, j.line
		j.first = bytes.Clone(line)
		if fault := j.parse(string(line), true, last); fault != nil {
			return fault
		}
		return nil
	}
}

func (j *jsonlReader) Format() Format    { return j.format }
func (j *jsonlReader) Columns() []string { return j.columns }
func (j *jsonlReader) Row() int64        { return j.row }
func (j *jsonlReader) Line() int64       { return j.line }
func (j *jsonlReader) Offset() int64     { return j.src.offset - int64(j.src.end-j.src.pos) }

// Ignored lists keys that appear only after the first rows and are not columns,
// at most 100 of them.
func (j *jsonlReader) Ignored() []string {
	var names []string
	for name := range j.ignored {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (j *jsonlReader) Next() ([]string, error) {
	if j.err != nil {
		return nil, j.err
	}
	for {
		line, last, err := j.first, false, error(nil)
		if j.first != nil {
			j.line, j.first = j.firstLine, nil
		} else if line, last, err = j.readLine(); err != nil {
			j.err = err
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		j.row++
		if j.row > j.o.MaxRows {
			j.err = j.fault("TOO_MANY_ROWS", fmt.Sprintf("the file has more than %d rows", j.o.MaxRows), "", "raise dataset.max_rows or upload a part of the file")
			return nil, j.err
		}
		if err := j.parse(string(line), false, last); err != nil {
			j.err = err
			return nil, err
		}
		return j.cells, nil
	}
}

// readLine returns the next line; last says that no line break ended it.
func (j *jsonlReader) readLine() (line []byte, last bool, err error) {
	s := j.src
	j.line++
	j.long = j.long[:0]
	for {
		w := s.window()
		i := bytes.IndexByte(w, '\n')
		switch {
		case i >= 0:
			s.pos += i + 1
			w = w[:i]
		case s.eof:
			if len(w) == 0 && len(j.long) == 0 {
				return nil, true, io.EOF
			}
			s.pos = s.end
			last = true
		case len(w) == len(s.buf):
			j.long = append(j.long, w...)
			s.pos = s.end
			if int64(len(j.long)) > j.maxLine {
				return nil, false, j.lineTooLong()
			}
			fallthrough
		default:
			if err := s.fill(); err != nil {
				return nil, false, err
			}
			continue
		}
		if len(j.long) > 0 {
			j.long = append(j.long, w...)
			w = j.long
		}
		return w, last, nil
	}
}

// lineTooLong says which value is too large, if the part that was read shows it.
func (j *jsonlReader) lineTooLong() error {
	j.row++
	if err := j.parse(string(bytes.TrimSpace(j.long)), false, true); err != nil && err.Code == "CELL_TOO_LARGE" {
		return err
	}
	return j.fault("ROW_TOO_LARGE", fmt.Sprintf("the line is longer than %d bytes", j.maxLine), "", "one JSON object a line, each value below dataset.max_cell_bytes")
}

func (j *jsonlReader) fault(code, message, column, hint string) *contract.Error {
	e := fault(j.o, code, message, hint)
	e.Row, e.Column = j.row, column
	if j.line != j.row {
		e.Message += fmt.Sprintf(" (line %d)", j.line)
	}
	return e
}
