package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// MaxLine is how many bytes of a line are kept.
const MaxLine = 64 << 10

// Position is a place between two lines.
type Position struct {
	// Seq is the number of the next line, from 1; Offset is where it begins.
	Seq    uint64 `json:"seq"`
	Offset int64  `json:"offset"`
}

// Line is one line without its end, or a gap.
type Line struct {
	Seq uint64
	// From is set for a gap: the lines From to Seq, Size bytes, were dropped.
	From uint64
	// Text is at most MaxLine bytes of it; Size is how long it was.
	Text []byte
	Size int64
	// Next is the position after it.
	Next Position
}

// markEvery is how many bytes lie between two places that a reader remembers.
const markEvery = 256 << 10

// Reader reads a growing file line by line. It is for one goroutine.
type Reader struct {
	f    *os.File
	next Position
	base Position   // what is before it was dropped
	mark []Position // places that were passed, oldest first

	buf        []byte
	start, end int   // unread part of buf
	read       int64 // file offset after buf's end
	head       []byte
	length     int64 // of the line in the making
}

// Open opens a file at a position; the zero Position is its beginning. What is
// before base, if any, was dropped: a gap stands for it.
func Open(path string, at, base Position) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	r := &Reader{f: f, buf: make([]byte, 64<<10), base: base}
	r.reset(at)
	return r, nil
}

// Close closes the file.
func (r *Reader) Close() error { return r.f.Close() }

// Position is where the next line begins.
func (r *Reader) Position() Position { return r.next }

// Sync makes durable what was written to the file.
func (r *Reader) Sync() error { return r.f.Sync() }

func (r *Reader) reset(at Position) {
	if at.Seq == 0 {
		at = Position{Seq: 1}
	}
	r.next, r.read = at, at.Offset
	r.start, r.end, r.length = 0, 0, 0
	r.head = r.head[:0]
}

// Next returns the next line, or the gap in its place; ok is false when there is
// none yet. With ended set nobody writes any more, and a last line without an
// end counts too.
func (r *Reader) Next(ended bool) (line Line, ok bool, err error) {
	if r.next.Seq < r.base.Seq {
		gap := Line{From: r.next.Seq, Seq: r.base.Seq - 1, Size: max(0, r.base.Offset-r.next.Offset), Next: r.base}
		r.reset(r.base)
		return gap, true, nil
	}
	for {
		if r.start == r.end {
			n, err := r.f.ReadAt(r.buf, r.read)
			if err != nil && !errors.Is(err, io.EOF) {
				return Line{}, false, fmt.Errorf("spool: line %d: %w", r.next.Seq, err)
			}
			if n == 0 {
				if ended && r.length > 0 {
					return r.emit(r.read), true, nil
				}
				return Line{}, false, nil
			}
			r.start, r.end = 0, n
			r.read += int64(n)
		}
		part := r.buf[r.start:r.end]
		i := bytes.IndexByte(part, '\n')
		if i >= 0 {
			part = part[:i]
		}
		r.head = append(r.head, part[:min(len(part), MaxLine-len(r.head))]...)
		r.length += int64(len(part))
		r.start += len(part)
		if i >= 0 {
			r.start++
			return r.emit(r.read - int64(r.end-r.start)), true, nil
		}
	}
}

func (r *Reader) emit(after int64) Line {
	text := bytes.TrimSuffix(r.head, []byte("\r"))
	line := Line{Seq: r.next.Seq, Text: bytes.Clone(text), Size: r.length, Next: Position{r.next.Seq + 1, after}}
	r.next, r.length, r.head = line.Next, 0, r.head[:0]
	if n := len(r.mark); n == 0 || r.next.Offset >= r.mark[n-1].Offset+markEvery {
		r.mark = append(r.mark, r.next)
	}
	return line
}

// Seek goes to the beginning of line seq, reading from the start if it lies
// back. It stops early, without an error, at the end of what is there. Where the
// line was dropped, the gap that Next returns begins with it.
func (r *Reader) Seek(seq uint64) error {
	if seq < r.base.Seq {
		r.reset(Position{Seq: max(seq, 1)})
		return nil
	}
	if seq < r.next.Seq {
		r.reset(r.base)
	}
	for r.next.Seq < seq {
		if _, ok, err := r.Next(false); err != nil || !ok {
			return err
		}
	}
	return nil
}
