package nodeagent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tunemesh/tunemesh/api"
)

// Bounds of an upload.
const (
	linksAtOnce = 200
	// uploadPatience is how long a store may be away before a finished attempt
	// is given up. What was computed for hours deserves some waiting.
	uploadPatience = 30 * time.Minute
	// refusals is how often the store may refuse a file for another reason
	// than an expired link.
	refusals = 5
)

// errChanged: a file is not what it was when it was hashed.
var errChanged = errors.New("nodeagent: the file changed while it was uploaded")

// localFile is a file to upload. It is opened under root, so that no link
// leads out of the folder that the stage was given.
type localFile struct {
	root *os.Root
	rel  string
	api.UploadFile
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
	n, err := io.Copy(h, &contextReader{ctx, f})
	if err != nil {
		return localFile{}, err
	}
	return localFile{root, rel, api.UploadFile{Name: name, Place: place, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}}, nil
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
// plane named them, in the same order.
func (r *runner) upload(ctx context.Context, checkpoint string, files []localFile) ([]api.Artifact, error) {
	done := make([]api.Artifact, len(files))
	for from := 0; from < len(files); from += linksAtOnce {
		part := files[from:min(from+linksAtOnce, len(files))]
		links, err := r.linksFor(ctx, checkpoint, part)
		if err != nil {
			return nil, err
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(transfers)
		for i, f := range part {
			g.Go(func() error {
				var err error
				done[from+i], err = r.put(gctx, checkpoint, f, links[i])
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
	}
	return done, nil
}

// linksFor asks for links until there is an answer.
func (r *runner) linksFor(ctx context.Context, checkpoint string, files []localFile) ([]api.Artifact, error) {
	req := api.UploadRequest{Checkpoint: checkpoint}
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

// put sends one file, over as many tries and links as it takes.
func (r *runner) put(ctx context.Context, checkpoint string, f localFile, to api.Artifact) (api.Artifact, error) {
	begin, refused := time.Now(), 0
	for n := 0; ; n++ {
		code, err := r.putOnce(ctx, f, to.URL)
		if err == nil {
			to.URL = ""
			return to, nil
		}
		if ctx.Err() != nil {
			return to, context.Cause(ctx)
		}
		if errors.Is(err, errChanged) || errors.Is(err, fs.ErrNotExist) {
			return to, err
		}
		if code >= 400 && code < 500 && code != http.StatusForbidden {
			refused++
		}
		if refused >= refusals || time.Since(begin) > uploadPatience {
			return to, err
		}
		r.log.Debug("upload is tried again", "file", f.Name, "error", err)
		if !sleep(ctx, r.a.backoff(n)) {
			return to, context.Cause(ctx)
		}
		if code == http.StatusForbidden { // the link has expired
			fresh, err := r.linksFor(ctx, checkpoint, []localFile{f})
			if err != nil {
				return to, err
			}
			to = fresh[0]
		}
	}
}

func (r *runner) putOnce(ctx context.Context, f localFile, link string) (int, error) {
	file, err := f.root.Open(f.rel)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	sum := &summing{r: io.LimitReader(file, f.Size), h: sha256.New()}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, link, io.NopCloser(sum))
	if err != nil {
		return 0, fmt.Errorf("nodeagent: upload %s: bad link", f.Name)
	}
	// A presigned PUT needs its length; zero with a body would mean unknown.
	req.ContentLength = f.Size
	if f.Size == 0 {
		req.Body = http.NoBody
	}
	resp, err := r.a.cfg.HTTP.Do(req)
	if err != nil {
		var wrapped *url.Error // carries the link, with its signature
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		if sum.n < f.Size && shorter(file, f.Size) {
			return 0, errChanged
		}
		return 0, fmt.Errorf("nodeagent: upload %s: %w", f.Name, err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 2<<10))
	if resp.StatusCode/100 != 2 {
		return resp.StatusCode, fmt.Errorf("nodeagent: upload %s: the store answered %s: %s", f.Name, resp.Status, cut(string(body), 300))
	}
	if f.Size > 0 && hex.EncodeToString(sum.h.Sum(nil)) != f.SHA256 {
		return resp.StatusCode, errChanged
	}
	return resp.StatusCode, nil
}

func shorter(f *os.File, size int64) bool {
	info, err := f.Stat()
	return err == nil && info.Size() < size
}

// summing hashes what is read, so that what was sent is known to be what was
// announced.
type summing struct {
	r io.Reader
	h hash.Hash
	n int64
}

func (s *summing) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.h.Write(p[:n])
	s.n += int64(n)
	return n, err
}
