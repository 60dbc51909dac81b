package hub

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

func (d *download) address(name string) string {
	return fmt.Sprintf("%s/%s/resolve/%s/%s", d.c.Endpoint, d.source.Repo, d.commit, (&url.URL{Path: name}).EscapedPath())
}

// file fetches one file, if it is not there already.
func (d *download) file(ctx context.Context, f file) error {
	target := filepath.Join(d.dir, filepath.FromSlash(f.Name))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if st, err := os.Stat(target); err == nil && st.Size() == f.size() { // it got its name when it had been checked
		d.resumed += st.Size()
		d.add(st.Size())
		return nil
	}
	for attempt := 1; ; attempt++ {
		before := d.done
		err := d.whole(ctx, f, target+".part")
		if err == nil {
			return os.Rename(target+".part", target)
		}
		var broken *sumError
		if !errors.As(err, &broken) || attempt == 2 {
			return err
		}
		d.done = before // once more, from the beginning
	}
}

// sumError says that a whole file is not what the hub announced.
type sumError struct{ name, got, want string }

func (e *sumError) Error() string {
	return fmt.Sprintf("%s came with the checksum %.12s…, the hub has %.12s…: it was damaged on the way, twice; try again, and if it stays so tell the owner of the model", e.name, e.got, e.want)
}

func (d *download) add(n int64) {
	d.done += n
	if d.hooks.Progress != nil {
		d.hooks.Progress(d.done, max(d.total, d.done))
	}
}

// whole brings a file's bytes to path, and checks them.
func (d *download) whole(ctx context.Context, f file, path string) (err error) {
	want, sum := f.sum()
	if sum == nil {
		return &Error{Message: fmt.Sprintf("the hub has no checksum for %s", f.Name), Hint: "fetch it with the hub's own tools, and import the folder"}
	}
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	p := &partial{download: d, f: f, out: out, sum: sum}
	if err := p.takeUp(); err != nil {
		return err
	}
	if check := d.hooks.Check; check != nil && d.source.File != "" {
		if err := p.fetchTo(ctx, min(headBytes, f.size())); err != nil {
			return err
		}
		if err := check(path, f.size()-p.have); err != nil {
			return &refusedError{err}
		}
	}
	if err := p.fetchTo(ctx, f.size()); err != nil {
		return err
	}
	if got := hex.EncodeToString(p.sum.Sum(nil)); got != want {
		if err := out.Truncate(0); err != nil {
			return err
		}
		return &sumError{f.Name, got, want}
	}
	return out.Sync()
}

// partial is a file that is being fetched.
type partial struct {
	*download
	f    file
	out  *os.File
	sum  hash.Hash // of what is there
	have int64     // how much is there
	most int64     // was there at any time: a server without ranges begins again and again
}

// takeUp reads what an earlier call has left.
func (p *partial) takeUp() error {
	n, err := io.Copy(p.sum, io.LimitReader(p.out, p.f.size()))
	if err != nil {
		return err
	}
	st, err := p.out.Stat()
	if err != nil {
		return err
	}
	p.have = n
	if st.Size() > p.f.size() { // of another file
		if err := p.restart(); err != nil {
			return err
		}
	}
	p.resumed += p.have
	p.most = p.have
	p.add(p.have)
	return nil
}

func (p *partial) restart() error {
	_, p.sum = p.f.sum()
	p.have = 0
	return p.out.Truncate(0)
}

// fetchTo brings the bytes up to limit, with as many requests as it takes.
func (p *partial) fetchTo(ctx context.Context, limit int64) error {
	return p.try(ctx, func() (bool, error) {
		if p.have >= limit {
			return true, nil
		}
		before := p.most
		err := p.request(ctx, limit)
		p.most = max(p.most, p.have)
		var disk *fs.PathError
		if errors.As(err, &disk) { // which asking the server again does not mend
			err = &Error{Message: err.Error(), cause: err}
		}
		return p.most > before, err
	})
}

// request asks for what is missing up to limit, once.
func (p *partial) request(ctx context.Context, limit int64) error {
	to := limit
	if to == p.f.size() {
		to = 0
	}
	res, err := p.get(ctx, p.address(p.f.Name), p.have, to)
	if err != nil {
		return fmt.Errorf("%s: %w", p.f.Name, err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK: // from the beginning, whatever was asked for
		p.done -= p.have
		if err := p.restart(); err != nil {
			return err
		}
	case http.StatusPartialContent:
		if !strings.HasPrefix(res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", p.have)) {
			return &Error{Message: fmt.Sprintf("%s: asked for the bytes from %d on, the server sends %q", p.f.Name, p.have, res.Header.Get("Content-Range")),
				Hint: "a proxy or a mirror answers wrongly: look at HTTPS_PROXY and HF_ENDPOINT"}
		}
	default:
		return p.fault(res, p.source, p.f.Name)
	}
	if _, err := p.out.Seek(p.have, io.SeekStart); err != nil {
		return err
	}
	n, err := io.Copy(io.MultiWriter(p.out, p.sum, adder{p.download}), io.LimitReader(res.Body, limit-p.have))
	p.have += n
	if p.have < limit && err == nil {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("%s: %w after %d of %d bytes", p.f.Name, err, p.have, p.f.size())
	}
	return nil
}

type adder struct{ d *download }

func (a adder) Write(p []byte) (int, error) {
	a.d.add(int64(len(p)))
	return len(p), nil
}
