package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/view"
)

// source is a file about to be uploaded.
type source struct {
	name string
	body io.Reader // an io.Seeker where the upload can be repeated
	size int64     // -1: not known
	file *os.File
}

// openSource opens a file, or standard input for "-", and refuses early what
// cannot be a dataset.
func openSource(path, name string, stdin io.Reader) (*source, error) {
	if path == "-" {
		if name == "" {
			name = "stdin"
		}
		return peeked(&source{name: name, size: -1}, stdin, "standard input")
	}
	if name == "" {
		name = filepath.Base(path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileFault(path, err)
	}
	if info.IsDir() {
		return nil, wrong("upload one file; several can be put together before", "%s is a directory, not a file", clip(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fileFault(path, err)
	}
	src := &source{name: name, body: f, size: info.Size(), file: f}
	if !info.Mode().IsRegular() { // a pipe: its size says nothing
		src.size = -1
		return peeked(src, f, path)
	}
	if src.size == 0 {
		src.close()
		return nil, wrong("a dataset has a header row and data rows", "%s is empty", clip(path))
	}
	return src, nil
}

// peeked waits for the first byte of a stream.
func peeked(src *source, r io.Reader, what string) (*source, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	if _, err := b.Peek(1); err != nil {
		src.close()
		if errors.Is(err, io.EOF) {
			return nil, wrong("a dataset has a header row and data rows", "%s is empty", clip(what))
		}
		return nil, wrong("", "%s cannot be read: %s", clip(what), reason(err))
	}
	src.body = b
	return src, nil
}

func (s *source) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}

// fileFault says what is wrong with a file, without the operation's name.
func fileFault(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return wrong("check the path", "there is no file %s", clip(path))
	case errors.Is(err, fs.ErrPermission):
		return wrong("check its permissions", "%s may not be read", clip(path))
	}
	return wrong("", "%s cannot be read: %s", clip(path), reason(err))
}

// reason is the innermost text of a file error.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// progress is a bar on standard error, or nothing where that is no terminal.
type progress struct {
	line  view.Transfer
	c     *call
	scr   Screen
	start time.Time
	drawn time.Time
}

func (c *call) progress(name string, total int64) *progress {
	return &progress{line: view.Transfer{Name: name, Total: total}, c: c, scr: c.Screen(c.err), start: c.Now()}
}

// add counts n bytes and redraws ten times a second at most.
func (p *progress) add(n int64) {
	p.line.Done += n
	if now := p.c.Now(); p.scr.Terminal && now.Sub(p.drawn) >= 100*time.Millisecond {
		p.draw(now)
	}
}

func (p *progress) draw(now time.Time) {
	p.drawn = now
	p.line.Elapsed = now.Sub(p.start)
	fmt.Fprint(p.c.err, "\r"+p.line.Line(p.scr.Width-1, p.scr.Style)+clearRight)
}

// end leaves the line at its last state.
func (p *progress) end() {
	if p.scr.Terminal && !p.drawn.IsZero() {
		p.draw(p.c.Now())
		fmt.Fprintln(p.c.err)
	}
}

// reader counts what is read from r; it can seek where r can, so that a broken
// upload can start again.
func (p *progress) reader(r io.Reader) io.Reader {
	if s, ok := r.(io.ReadSeeker); ok {
		return &seekCounter{counter{r: r, p: p}, s}
	}
	return &counter{r: r, p: p}
}

type counter struct {
	r io.Reader
	p *progress
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.p.add(int64(n))
	return n, err
}

type seekCounter struct {
	counter
	s io.Seeker
}

func (c *seekCounter) Seek(offset int64, whence int) (int64, error) {
	at, err := c.s.Seek(offset, whence)
	if err == nil {
		c.p.line.Done = at
	}
	return at, err
}

// writer counts what is written to w.
func (p *progress) writer(w io.Writer) io.Writer { return &countWriter{w, p} }

type countWriter struct {
	w io.Writer
	p *progress
}

func (c *countWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.p.add(int64(n))
	return n, err
}

// facts are the lines "Name   value" of the show verbs.
type facts struct {
	c    *call
	rows [][2]string
}

// add notes a fact; an empty one is left out.
func (f *facts) add(name, value string) {
	if value != "" {
		f.rows = append(f.rows, [2]string{name, value})
	}
}

func (f *facts) print() {
	width := 0
	for _, r := range f.rows {
		width = max(width, format.Width(r[0]))
	}
	for _, r := range f.rows {
		value := format.Clean(r[1])
		if r[0] == "State" || r[0] == "Status" {
			value = f.c.scr.Style.State(value)
		}
		fmt.Fprintln(f.c.out, format.Indent(f.c.scr.Style.Faint(format.Fit(r[0], width))+"  ", value, f.c.scr.Width))
	}
}
