package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/cli/view"
)

// progress is a bar on standard error, or nothing where that is no terminal.
type progress struct {
	mu    sync.Mutex // of moved
	line  view.Transfer
	c     *call
	scr   Screen
	start time.Time
	drawn time.Time
}

func (c *call) progress(name string, total int64) *progress {
	return &progress{line: view.Transfer{Name: name, Total: total}, c: c, scr: c.Screen(c.err), start: c.Now()}
}

// moved is add for bytes that several goroutines move.
func (p *progress) moved(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(n)
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
