package table

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// csvReader scans CSV and TSV. A record without quotes that lies whole in the
// window is cut in place; any other goes byte by byte through quoted.
type csvReader struct {
	src     *source
	o       Options
	format  Format
	comma   byte
	columns []string
	cells   []string
	rec     []byte // of a record with quotes: its cells, unquoted, one after the other
	ends    []int  // where each cell of rec ends
	row     int64
	line    int64 // where the record starts
	next    int64 // where the next one does
	err     error
}

// openCSV reads the header, which stands on line.
func openCSV(src *source, format Format, o Options, line int64) (*csvReader, error) {
	c := &csvReader{src: src, o: o, format: format, comma: format.Delimiter[0], next: line}
	if err := c.record(); err == io.EOF {
		return nil, fault(o, "EMPTY_FILE", "the file has no header row", "upload a file with a header row and data rows")
	} else if err != nil {
		return nil, err
	}
	if err := c.checkText(); err != nil {
		return nil, err
	}
	columns, err := headerNames(c.cells, o)
	if err != nil {
		return nil, err
	}
	c.columns = columns
	return c, nil
}

// headerNames checks the header and returns its names without the whitespace
// around them.
func headerNames(cells []string, o Options) ([]string, error) {
	if len(cells) > maxColumns {
		return nil, headerFault(o, "TOO_MANY_COLUMNS", fmt.Sprintf("the header has %d columns, the most is %d", len(cells), maxColumns), "", "is it a table?")
	}
	names := make([]string, len(cells))
	seen := make(map[string]int, len(cells))
	for i, cell := range cells {
		name := strings.TrimSpace(cell)
		if name == "" {
			return nil, headerFault(o, "EMPTY_COLUMN_NAME", fmt.Sprintf("column %d of %d has no name", i+1, len(cells)), "", "the first row must hold the columns' names; name this one or delete it")
		}
		if first, ok := seen[name]; ok {
			return nil, headerFault(o, "DUPLICATE_COLUMN", fmt.Sprintf("columns %d and %d have the same name", first+1, i+1), name, "rename or delete one of them")
		}
		seen[name] = i
		names[i] = strings.Clone(name)
	}
	return names, nil
}

func headerFault(o Options, code, message, column, hint string) *contract.Error {
	e := fault(o, code, message, hint)
	e.Row, e.Column = 1, column
	return e
}

func (c *csvReader) Format() Format    { return c.format }
func (c *csvReader) Columns() []string { return c.columns }
func (c *csvReader) Row() int64        { return c.row }
func (c *csvReader) Line() int64       { return c.line }
func (c *csvReader) Offset() int64     { return c.src.offset - int64(c.src.end-c.src.pos) }

func (c *csvReader) Next() ([]string, error) {
	if c.err != nil {
		return nil, c.err
	}
	if err := c.advance(); err != nil {
		c.err = err
		return nil, err
	}
	return c.cells, nil
}

func (c *csvReader) advance() error {
	if err := c.record(); err == io.EOF && c.row == 1 {
		return headerFault(c.o, "NO_ROWS", "the file has a header and no data rows", "", "upload a file with data rows; if its first row is data, put a row with names above it")
	} else if err != nil {
		return err
	}
	if c.row-1 > c.o.MaxRows {
		return c.fault(-1, "TOO_MANY_ROWS", fmt.Sprintf("the file has more than %d data rows", c.o.MaxRows), "raise dataset.max_rows or upload a part of the file")
	}
	if len(c.cells) != len(c.columns) {
		return c.ragged(len(c.cells), "")
	}
	return c.checkText()
}

func (c *csvReader) ragged(n int, orMore string) error {
	hint := "each row needs one cell for each column of the header; quote a cell that holds a delimiter or a line break"
	if c.src.eof && c.src.pos == c.src.end && n < len(c.columns) {
		hint = "it is the last row: the file may be cut off; upload it again"
	}
	return c.fault(-1, "RAGGED_ROW", fmt.Sprintf("the row has %d cells%s, the header has %d", n, orMore, len(c.columns)), hint)
}

// record reads the next record that is no empty line into cells.
func (c *csvReader) record() error {
	for {
		c.line = c.next
		line, ok, err := c.plainLine()
		if err != nil {
			return err
		}
		if !ok {
			empty, err := c.quotedRecord()
			if err != nil {
				return err
			}
			if empty {
				continue
			}
			return nil
		}
		if len(line) == 0 {
			continue
		}
		c.row++
		return c.cut(string(line))
	}
}

// plainLine takes a line without quotes from the window; ok is false if there
// is none such, and io.EOF the end of the file.
func (c *csvReader) plainLine() (line []byte, ok bool, err error) {
	s := c.src
	for {
		w := s.window()
		i := bytes.IndexByte(w, '\n')
		if i < 0 && s.eof {
			if len(w) == 0 {
				return nil, false, io.EOF
			}
			i = len(w)
		}
		if i < 0 {
			if len(w) == len(s.buf) {
				return nil, false, nil
			}
			if err := s.fill(); err != nil {
				return nil, false, err
			}
			continue
		}
		if bytes.IndexByte(w[:i], '"') >= 0 {
			return nil, false, nil
		}
		s.pos = min(s.pos+i+1, s.end)
		c.next++
		line = w[:i]
		if i > 0 && line[i-1] == '\r' {
			line = line[:i-1]
		}
		return line, true, nil
	}
}

// cut splits a record without quotes.
func (c *csvReader) cut(line string) error {
	c.cells = c.cells[:0]
	check := int64(len(line)) > c.o.MaxCellBytes
	for {
		i := strings.IndexByte(line, c.comma)
		cell := line
		if i >= 0 {
			cell = line[:i]
		}
		if check && int64(len(cell)) > c.o.MaxCellBytes {
			return c.tooLarge(len(c.cells), 0)
		}
		c.cells = append(c.cells, cell)
		if i < 0 {
			return nil
		}
		line = line[i+1:]
	}
}

// checkText refuses bytes that are no UTF-8, and zero bytes.
func (c *csvReader) checkText() error {
	for i, cell := range c.cells {
		if err := textFault(cell, "cell"); err != nil {
			return c.fault(i, err.code, err.message, err.hint)
		}
	}
	return nil
}

// fault makes an error at the current row; index is the cell's, or -1.
func (c *csvReader) fault(index int, code, message, hint string) *contract.Error {
	e := fault(c.o, code, message, hint)
	e.Row = c.row
	if c.columns == nil && index >= 0 {
		e.Message = fmt.Sprintf("in the name of column %d: %s", index+1, message)
	} else if index >= 0 && index < len(c.columns) {
		e.Column = c.columns[index]
	} else if index >= 0 {
		e.Message = fmt.Sprintf("in cell %d, which is beyond the header's %d columns: %s", index+1, len(c.columns), message)
	}
	if c.line != c.row {
		e.Message += fmt.Sprintf(" (the row starts on line %d)", c.line)
	}
	return e
}

// tooLarge is the error of a cell beyond its limit; opened is the line of the
// quote that opens it, or 0.
func (c *csvReader) tooLarge(index int, opened int64) error {
	message := fmt.Sprintf("the cell is larger than %d bytes", c.o.MaxCellBytes)
	hint := "shorten it, or raise dataset.max_cell_bytes"
	if opened > 0 {
		hint += fmt.Sprintf("; if it should be small, the quote that opens it on line %d is not closed", opened)
	}
	return c.fault(index, "CELL_TOO_LARGE", message, hint)
}
