package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/tunemesh/tunemesh/api"
)

const (
	// PartsFrom is the size in bytes from which on a file goes in parts. Below it
	// a broken upload costs less than the calls that parts need.
	PartsFrom = 64 << 20
	// partLeast is the least part in bytes. It is also what a broken connection
	// costs at most.
	partLeast = 16 << 20
	// partsAtOnce is how many parts of a file are on their way together,
	// linksAtOnce how many links are asked for: few enough that none expires
	// before its turn.
	partsAtOnce = 3
	linksAtOnce = 24
	// rounds is how often the store may say that it lacks what it took.
	rounds = 6
)

// ErrNoParts: the control plane, or its object store, takes no files in parts.
var ErrNoParts = errors.New("the control plane takes no files in parts")

// PartSize is the size in bytes of all parts but the last of a file. It depends
// on the file's size alone, so that whoever goes on with an upload cuts alike.
func PartSize(size int64) int64 {
	least := (size + api.MaxParts - 1) / api.MaxParts
	const step = 1 << 20
	return max(partLeast, (least+step-1)/step*step)
}

// Parts makes the list of a file's parts while the file is written into it.
type Parts struct {
	each int64
	sum  hash.Hash
	n    int64 // of the part in the making
	list []api.UploadPart
}

// CutParts begins the list of a file of size bytes.
func CutParts(size int64) *Parts { return &Parts{each: PartSize(size), sum: sha256.New()} }

// Write implements io.Writer; it never fails.
func (p *Parts) Write(b []byte) (int, error) {
	written := len(b)
	for len(b) > 0 {
		n := int(min(int64(len(b)), p.each-p.n))
		p.sum.Write(b[:n])
		p.n += int64(n)
		b = b[n:]
		if p.n == p.each {
			p.cut()
		}
	}
	return written, nil
}

func (p *Parts) cut() {
	p.list = append(p.list, api.UploadPart{Number: len(p.list) + 1, Size: p.n, SHA256: hex.EncodeToString(p.sum.Sum(nil))})
	p.sum.Reset()
	p.n = 0
}

// List ends the list and returns it.
func (p *Parts) List() []api.UploadPart {
	if p.n > 0 {
		p.cut()
	}
	return p.list
}

// Unknown says whether a problem is the answer of a control plane that knows no
// files in parts, or whose object store does not.
func Unknown(p *api.Problem) bool {
	return p.Status == http.StatusNotFound || p.Status == http.StatusMethodNotAllowed || p.Status == http.StatusNotImplemented
}

// Planner is the control plane's side of an upload in parts. Its methods return
// an error only where asking again is pointless, ErrNoParts where there is no
// such thing, and an *api.Problem of the kind api.ProblemNotStored where the
// store lacks something that has to be sent again.
type Planner interface {
	// Begin begins an upload, or goes on with the one of that id.
	Begin(ctx context.Context, id string) (api.Multipart, error)
	// Links returns the parts with links.
	Links(ctx context.Context, id string, parts []api.UploadPart) ([]api.UploadPart, error)
	// Complete makes the parts one file.
	Complete(ctx context.Context, id string) error
	// Abort gives the upload up.
	Abort(ctx context.Context, id string) error
}

// SendParts sends a file in parts, of which the store may have some already. id
// is that of an upload that was begun earlier, if any; keep is told of another
// one before anything is sent for it.
func (c Client) SendParts(ctx context.Context, from io.ReaderAt, parts []api.UploadPart, plan Planner, id string, keep func(id string) error) error {
	each := PartSize(sizeOf(parts))
	var counted atomic.Int64 // what Moved heard of in this round
	once := c
	once.Moved = func(n int64) {
		counted.Add(n)
		c.moved(n)
	}
	for round := 0; ; round++ {
		m, err := plan.Begin(ctx, id)
		if err != nil {
			return err
		}
		if m.UploadID != id {
			id = m.UploadID
			if err := keep(id); err != nil {
				return err
			}
		}
		if m.Done {
			c.moved(sizeOf(parts))
			return nil
		}
		missing, strange := compare(parts, m.Parts)
		if strange { // somebody cut the file otherwise
			if err := plan.Abort(ctx, id); err != nil {
				return err
			}
			id = ""
		} else {
			once.moved(sizeOf(parts) - sizeOf(missing))
			err = once.sendMissing(ctx, from, each, missing, plan, id)
			if err == nil {
				err = plan.Complete(ctx, id)
			}
			if err == nil {
				return nil
			}
			c.moved(-counted.Swap(0))
		}
		if err != nil && !isNotStored(err) || round >= rounds {
			return err
		}
		if err := c.pause(ctx, round); err != nil {
			return err
		}
	}
}

func sizeOf(parts []api.UploadPart) (n int64) {
	for _, p := range parts {
		n += p.Size
	}
	return n
}

// compare says which parts the store lacks; strange, that it has some that the
// file has not.
func compare(want, have []api.UploadPart) (missing []api.UploadPart, strange bool) {
	there := map[int]api.UploadPart{}
	for _, p := range have {
		if p.Number > len(want) {
			return nil, true
		}
		there[p.Number] = p
	}
	for _, p := range want {
		if got := there[p.Number]; got.SHA256 != p.SHA256 || got.Size != p.Size {
			missing = append(missing, p)
		}
	}
	return missing, false
}

func (c Client) sendMissing(ctx context.Context, from io.ReaderAt, each int64, parts []api.UploadPart, plan Planner, id string) error {
	for len(parts) > 0 {
		chunk := parts[:min(len(parts), linksAtOnce)]
		parts = parts[len(chunk):]
		linked, err := plan.Links(ctx, id, chunk)
		if err != nil {
			return err
		}
		if len(linked) != len(chunk) {
			return fmt.Errorf("the control plane answered %d links for %d parts", len(linked), len(chunk))
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(partsAtOnce)
		for i, p := range chunk {
			g.Go(func() error {
				piece := Piece{From: from, Offset: int64(p.Number-1) * each, Size: p.Size, SHA256: p.SHA256}
				err := c.Send(gctx, piece, linked[i].URL, func(ctx context.Context) (string, error) { return relink(ctx, plan, id, p) })
				var status *StatusError
				if errors.As(err, &status) && status.Code == http.StatusNotFound {
					// The upload is not there any more: ask what is.
					return notStored(status)
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// relink gets another link for a part, if its upload is still there.
func relink(ctx context.Context, plan Planner, id string, p api.UploadPart) (string, error) {
	m, err := plan.Begin(ctx, id)
	if err != nil {
		return "", err
	}
	if m.Done || m.UploadID != id {
		return "", notStored(errors.New("it is another one now"))
	}
	fresh, err := plan.Links(ctx, id, []api.UploadPart{p})
	if err != nil {
		return "", err
	}
	if len(fresh) != 1 {
		return "", fmt.Errorf("the control plane answered %d links for one part", len(fresh))
	}
	return fresh[0].URL, nil
}

func notStored(why error) error {
	return &api.Problem{Type: api.ProblemNotStored, Title: "the upload is gone", Status: http.StatusUnprocessableEntity, Detail: why.Error()}
}

func isNotStored(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Type == api.ProblemNotStored
}
