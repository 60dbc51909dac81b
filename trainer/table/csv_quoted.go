package table

import (
	"bytes"
	"fmt"
)

// quotedRecord reads a record that has quotes or is larger than the window, cell
// by cell. empty says that it was an empty line, which is no record.
func (c *csvReader) quotedRecord() (empty bool, err error) {
	c.row++ // so that a fault names this record
	c.rec, c.ends = c.rec[:0], c.ends[:0]
	quotes := false
	for {
		more, err := c.src.more()
		if err != nil {
			return false, err
		}
		last := true
		if !more {
			// the file ends behind a delimiter: one more, empty cell
		} else if c.src.buf[c.src.pos] == '"' {
			quotes = true
			last, err = c.quotedCell()
		} else {
			last, err = c.plainCell()
		}
		if err != nil {
			return false, err
		}
		c.ends = append(c.ends, len(c.rec))
		if last {
			break
		}
		if c.columns == nil && len(c.ends) > maxColumns {
			return false, headerFault(c.o, "TOO_MANY_COLUMNS", fmt.Sprintf("the header has more than %d columns", maxColumns), "", "is it a table?")
		}
		if c.columns != nil && len(c.ends) > len(c.columns)+1000 {
			return false, c.ragged(len(c.ends), " or more")
		}
	}
	if len(c.ends) == 1 && len(c.rec) == 0 && !quotes {
		c.row--
		return true, nil
	}
	text, start := string(c.rec), 0
	c.cells = c.cells[:0]
	for _, end := range c.ends {
		c.cells = append(c.cells, text[start:end])
		start = end
	}
	return false, nil
}

// take appends the next n bytes of the window to the cell that started at start.
func (c *csvReader) take(n, start int, opened int64) error {
	c.rec = append(c.rec, c.src.buf[c.src.pos:c.src.pos+n]...)
	c.src.pos += n
	if int64(len(c.rec)-start) > c.o.MaxCellBytes {
		return c.tooLarge(len(c.ends), opened)
	}
	if int64(len(c.rec)) > maxRowBytes+c.o.MaxCellBytes {
		return c.fault(-1, "ROW_TOO_LARGE", fmt.Sprintf("the row is larger than %d bytes", maxRowBytes), "a quote may be unclosed, or the delimiter another one than "+fmt.Sprintf("%q", c.comma))
	}
	return nil
}

// plainCell reads a cell that does not start with a quote. last says that it
// ends its record.
func (c *csvReader) plainCell() (last bool, err error) {
	start := len(c.rec)
	for {
		more, err := c.src.more()
		if err != nil {
			return false, err
		}
		if !more {
			c.dropCR(start)
			return true, nil
		}
		w := c.src.window()
		i := 0
		for i < len(w) && w[i] != c.comma && w[i] != '\n' {
			i++
		}
		if err := c.take(i, start, 0); err != nil {
			return false, err
		}
		if i == len(w) {
			continue
		}
		c.src.pos++
		if w[i] == '\n' {
			c.next++
			c.dropCR(start)
			return true, nil
		}
		return false, nil
	}
}

func (c *csvReader) dropCR(start int) {
	if n := len(c.rec); n > start && c.rec[n-1] == '\r' {
		c.rec = c.rec[:n-1]
	}
}

// quotedCell reads a cell in quotes; a doubled quote stands for one.
func (c *csvReader) quotedCell() (last bool, err error) {
	start, opened := len(c.rec), c.next
	c.src.pos++
	for {
		more, err := c.src.more()
		if err != nil {
			return false, err
		}
		if !more {
			return false, c.fault(len(c.ends), "TRUNCATED", fmt.Sprintf("the file ends inside a quoted cell that opens on line %d", opened), "the file is cut off, or that quote is not meant as one: upload it again, or double the quote")
		}
		w := c.src.window()
		i := bytes.IndexByte(w, '"')
		n := i
		if i < 0 {
			n = len(w)
		}
		c.next += int64(bytes.Count(w[:n], []byte{'\n'}))
		if err := c.take(n, start, opened); err != nil {
			return false, err
		}
		if i < 0 {
			continue
		}
		c.src.pos++ // the quote
		if more, err = c.src.more(); err != nil {
			return false, err
		}
		if more && c.src.buf[c.src.pos] == '"' {
			if err := c.take(1, start, opened); err != nil {
				return false, err
			}
			continue
		}
		c.joinLines(start)
		if !more {
			return true, nil
		}
		return c.afterQuote(opened)
	}
}

// afterQuote reads what may follow a closing quote: a delimiter or the line's end.
func (c *csvReader) afterQuote(opened int64) (last bool, err error) {
	b := c.src.buf[c.src.pos]
	c.src.pos++
	if b == '\r' {
		more, err := c.src.more()
		if err != nil {
			return false, err
		}
		if !more {
			return true, nil
		}
		if b = c.src.buf[c.src.pos]; b == '\n' {
			c.src.pos++
		} else {
			b = '\r'
		}
	}
	switch b {
	case c.comma:
		return false, nil
	case '\n':
		c.next++
		return true, nil
	}
	return false, c.fault(len(c.ends), "BAD_QUOTE", fmt.Sprintf("%q follows the quote that closes a cell; only a delimiter or the end of the line may (the cell opens on line %d)", b, opened), `write a quote inside a quoted cell twice: "say ""hello"" to me"`)
}

// joinLines turns CRLF inside a cell into LF, as encoding/csv does.
func (c *csvReader) joinLines(start int) {
	cell := c.rec[start:]
	if bytes.IndexByte(cell, '\r') < 0 {
		return
	}
	c.rec = append(c.rec[:start], bytes.ReplaceAll(cell, []byte("\r\n"), []byte("\n"))...)
}
