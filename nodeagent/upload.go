package nodeagent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/transfer"
)

const (
	// linksAtOnce is how many small files' links are asked for together.
	linksAtOnce = 200
	// uploadPatience is how long a store may be away before a finished attempt
	// is given up. What was computed for hours deserves some waiting.
	uploadPatience = 30 * time.Minute
	// refusals is how often the store may say that it lacks what it was sent.
	refusals = 5
)

// localFile is a file to upload. It is opened under root, so that no link
// leads out of the folder that the stage was given.
type localFile struct {
	root *os.Root
	rel  string
	api.UploadFile
	parts []api.UploadPart // of a large file
}

// listFiles returns the regular files under rel, which may be one itself, as
// name or name/relative/path, sorted, with sizes and hashes.
func listFiles(ctx context.Context, root *os.Root, rel, name, place string) ([]localFile, error) {
	rel = path.Clean(filepath.ToSlash(rel))
	info, err := root.Stat(rel)
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() {
		f, err := describeFile(ctx, root, rel, name, place)
		return []localFile{f}, err
	}
	var files []localFile
	err = fs.WalkDir(root.FS(), rel, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := root.Stat(p); err != nil || !info.Mode().IsRegular() {
			return err // a socket, or a link to a folder
		}
		sub := strings.TrimPrefix(strings.TrimPrefix(p, rel), "/")
		if rel == "." {
			sub = p
		}
		f, err := describeFile(ctx, root, p, strings.TrimPrefix(name+"/"+sub, "/"), place)
		files = append(files, f)
		return err
	})
	slices.SortFunc(files, func(a, b localFile) int { return strings.Compare(a.Name, b.Name) })
	return files, err
}

func describeFile(ctx context.Context, root *os.Root, rel, name, place string) (localFile, error) {
	f, err := root.Open(rel)
	if err != nil {
		return localFile{}, err
	}
	defer f.Close()
	h := sha256.New()
	var to io.Writer = h
	var parts *transfer.Parts
	if info, err := f.Stat(); err == nil && info.Size() >= transfer.PartsFrom {
		parts = transfer.CutParts(info.Size())
		to = io.MultiWriter(h, parts)
	}
	n, err := io.Copy(to, &contextReader{ctx, f})
	if err != nil {
		return localFile{}, err
	}
	out := localFile{root: root, rel: rel, UploadFile: api.UploadFile{Name: name, Place: place, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}}
	if parts != nil {
		out.parts = parts.List()
	}
	return out, nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// upload puts files into the object store, and returns them as the control
// plane named them, in the same order. What the ledger says is there is not sent
// again.
func (r *runner) upload(ctx context.Context, checkpoint string, files []localFile) ([]api.Artifact, error) {
	done := make([]api.Artifact, len(files))
	var missing []int
	var left int64
	for i, f := range files {
		var there bool
		if done[i], there = r.sent.stored(checkpoint, f.UploadFile); !there {
			missing = append(missing, i)
			left += f.Size
		}
	}
	moves, end := r.a.uploading(left)
	defer end()
	var small []int
	for _, i := range missing {
		f := files[i]
		switch {
		case len(f.parts) > 0:
			out, err := r.putParts(ctx, moves, checkpoint, f)
			if errors.Is(err, transfer.ErrNoParts) { // an older control plane
				small = append(small, i)
				continue
			}
			if err != nil {
				return nil, err
			}
			done[i] = out
		default:
			small = append(small, i)
		}
	}
	for chunk := range slices.Chunk(small, linksAtOnce) {
		if err := r.putSmall(ctx, moves, checkpoint, files, chunk, done); err != nil {
			return nil, err
		}
	}
	return done, r.sent.flush()
}

// uploading is a client for files of left bytes together, which shows in the
// agent's figures what of them is still to be sent until end is called.
func (a *Agent) uploading(left int64) (c transfer.Client, end func()) {
	var moved atomic.Int64
	a.toUpload.Add(left)
	c = a.transfer
	c.Moved = func(n int64) {
		moved.Add(n)
		a.toUpload.Add(-n)
	}
	return c, func() { a.toUpload.Add(moved.Load() - left) }
}

// putSmall sends the files with these indices, each by one PUT.
func (r *runner) putSmall(ctx context.Context, moves transfer.Client, checkpoint string, files []localFile, which []int, done []api.Artifact) error {
	part := make([]localFile, len(which))
	for i, at := range which {
		part[i] = files[at]
	}
	links, err := r.linksFor(ctx, checkpoint, part)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(transfers)
	for i, f := range part {
		g.Go(func() error {
			out, err := r.put(gctx, moves, checkpoint, f, links[i])
			done[which[i]] = out
			return err
		})
	}
	return g.Wait()
}

// linksFor asks for links until there is an answer.
func (r *runner) linksFor(ctx context.Context, checkpoint string, files []localFile) ([]api.Artifact, error) {
	req := api.UploadRequest{Checkpoint: checkpoint, Sealed: true}
	for _, f := range files {
		req.Files = append(req.Files, f.UploadFile)
	}
	for n := 0; ; n++ {
		reply, err := r.a.cp.RequestUploads(ctx, r.as.Fence, req)
		switch {
		case err == nil && len(reply.Files) == len(files):
			return reply.Files, nil
		case err == nil:
			return nil, fmt.Errorf("nodeagent: the control plane answered %d upload links for %d files", len(reply.Files), len(files))
		case isStale(err):
			r.stop(reasonStale)
			return nil, errStale
		case isRefused(err):
			return nil, err
		}
		if !sleep(ctx, r.a.backoff(n)) {
			return nil, context.Cause(ctx)
		}
	}
}

// put sends one file by one PUT at a time, over as many tries and links as it
// takes.
func (r *runner) put(ctx context.Context, moves transfer.Client, checkpoint string, f localFile, to api.Artifact) (api.Artifact, error) {
	file, err := f.root.Open(f.rel)
	if err != nil {
		return to, err
	}
	defer file.Close()
	link := to.URL
	to.URL = ""
	piece := transfer.Piece{From: file, Size: f.Size, SHA256: f.SHA256}
	err = moves.Send(ctx, piece, link, func(ctx context.Context) (string, error) {
		fresh, err := r.linksFor(ctx, checkpoint, []localFile{f})
		if err != nil {
			return "", err
		}
		return fresh[0].URL, nil
	})
	if err != nil {
		return to, uploadFault(ctx, f, err)
	}
	return to, r.sent.keep(checkpoint, f.UploadFile, to)
}

// putParts sends a large file, of which the store may have some parts already.
func (r *runner) putParts(ctx context.Context, moves transfer.Client, checkpoint string, f localFile) (api.Artifact, error) {
	file, err := f.root.Open(f.rel)
	if err != nil {
		return api.Artifact{}, err
	}
	defer file.Close()
	plan := &attemptParts{r: r, req: api.MultipartRequest{File: f.UploadFile, Checkpoint: checkpoint}}
	id := r.sent.begun(checkpoint, f.UploadFile)
	began := time.Now()
	err = moves.SendParts(ctx, file, f.parts, plan, id, func(id string) error {
		return r.sent.begin(checkpoint, f.UploadFile, id)
	})
	if err != nil {
		return plan.file, uploadFault(ctx, f, err)
	}
	r.log.Info("large file uploaded", "file", f.Name, "bytes", f.Size, "parts", len(f.parts), "took", time.Since(began).Round(time.Millisecond))
	return plan.file, r.sent.keep(checkpoint, f.UploadFile, plan.file)
}

// uploadFault says which file it was, unless that does not matter.
func uploadFault(ctx context.Context, f localFile, err error) error {
	if ctx.Err() != nil || errors.Is(err, errStale) {
		return err
	}
	return fmt.Errorf("nodeagent: upload %s: %w", f.Name, err)
}

// attemptParts plans the upload of one file of an attempt. It implements
// transfer.Planner.
type attemptParts struct {
	r    *runner
	req  api.MultipartRequest
	file api.Artifact // where it lies
}

// Begin implements transfer.Planner.
func (p *attemptParts) Begin(ctx context.Context, id string) (api.Multipart, error) {
	m, err := p.ask(ctx, api.MultipartBegin, id, nil)
	p.file = m.File
	return m, err
}

// Links implements transfer.Planner.
func (p *attemptParts) Links(ctx context.Context, id string, parts []api.UploadPart) ([]api.UploadPart, error) {
	m, err := p.ask(ctx, api.MultipartLinks, id, parts)
	return m.Parts, err
}

// Complete implements transfer.Planner.
func (p *attemptParts) Complete(ctx context.Context, id string) error {
	_, err := p.ask(ctx, api.MultipartComplete, id, nil)
	return err
}

// Abort implements transfer.Planner.
func (p *attemptParts) Abort(ctx context.Context, id string) error {
	_, err := p.ask(ctx, api.MultipartAbort, id, nil)
	return err
}

// ask takes one step, again until there is an answer.
func (p *attemptParts) ask(ctx context.Context, step api.MultipartStep, id string, parts []api.UploadPart) (api.Multipart, error) {
	req := p.req
	req.UploadID, req.Parts = id, parts
	begin := time.Now()
	for n := 0; ; n++ {
		m, err := p.r.a.cp.Multipart(ctx, p.r.as.Fence, step, req)
		var problem *api.Problem
		switch {
		case err == nil:
			return m, nil
		case !errors.As(err, &problem): // nobody answered
		case problem.Type == api.ProblemStaleFence:
			p.r.stop(reasonStale)
			return m, errStale
		case transfer.Unknown(problem):
			return m, transfer.ErrNoParts
		case isNotStored(err), isRefused(err), time.Since(begin) > uploadPatience:
			return m, err
		}
		if !sleep(ctx, p.r.a.backoff(n)) {
			return m, context.Cause(ctx)
		}
	}
}
