package sample

import (
	"io"
	"strconv"
	"unicode/utf8"
)

// flushAt is the buffer size at which a Writer hands its bytes on: large enough
// that the cost of a write does not show.
const flushAt = 1 << 16

// Writer writes samples as JSON lines. Flush ends the work.
type Writer struct {
	w   io.Writer
	buf []byte
	err error
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, buf: make([]byte, 0, flushAt+1<<12)} }

// Write appends one sample. After an error every call returns it.
func (w *Writer) Write(s *Sample) error {
	w.buf = Append(w.buf, s)
	return w.flushIfFull()
}

// WriteLine appends a line that Append made, so that samples can be encoded
// elsewhere, in parallel.
func (w *Writer) WriteLine(line []byte) error {
	w.buf = append(w.buf, line...)
	return w.flushIfFull()
}

func (w *Writer) flushIfFull() error {
	if len(w.buf) >= flushAt {
		return w.Flush()
	}
	return w.err
}

// Flush hands all that is buffered to the underlying writer.
func (w *Writer) Flush() error {
	if w.err == nil && len(w.buf) > 0 {
		_, w.err = w.w.Write(w.buf)
	}
	w.buf = w.buf[:0]
	return w.err
}

// Append appends s as one JSON line, the line break included.
func Append(b []byte, s *Sample) []byte {
	b = append(b, `{"row":`...)
	b = strconv.AppendInt(b, s.Row, 10)
	b = append(b, `,"input":`...)
	b = appendString(b, s.Input)
	b = append(b, `,"target":`...)
	b = appendString(b, s.Target)
	b = append(b, `,"tokens":[`...)
	for i, t := range s.Tokens {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(t), 10)
	}
	b = append(b, `],"loss":[`...)
	for i, r := range s.Loss {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = strconv.AppendInt(b, int64(r[0]), 10)
		b = append(b, ',')
		b = strconv.AppendInt(b, int64(r[1]), 10)
		b = append(b, ']')
	}
	b = append(b, `],"prompt_tokens":`...)
	b = strconv.AppendInt(b, int64(s.PromptTokens), 10)
	return append(b, "}\n"...)
}

// appendString appends text as a JSON string (RFC 8259): only what must be
// escaped is, and bytes that are no UTF-8 become U+FFFD.
func appendString(b []byte, text string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, text[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, text[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	return append(append(b, text[start:]...), '"')
}
