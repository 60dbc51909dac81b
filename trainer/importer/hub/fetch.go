package hub

import (
	"context"
	"crypto/sha1" // git names a blob by it; not a defence against forgery
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	commit = regexp.MustCompile(`^[0-9a-f]{40}$`)
	sum256 = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// small are the files that an import reads beside the weights.
	small = regexp.MustCompile(`(?i)^(config\.json|generation_config\.json|tokenizer\.json|tokenizer\.model|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|chat_template\.jinja|readme\.md|(licen[cs]e|notice|use_policy)[a-z0-9_-]*(\.(md|txt|pdf))?)$`)
)

const (
	weightsName = "model.safetensors"
	indexName   = "model.safetensors.index.json"
	maxIndex    = 64 << 20
)

// Fetched is a model on this machine.
type Fetched struct {
	Path   string // the folder, or the GGUF file
	Commit string // the revision's
	Files  []string
	// Resumed are the bytes that an earlier, interrupted Fetch had left.
	Resumed int64
}

// Fetch downloads what an import needs of a revision into dir/ORG--NAME/COMMIT. What an
// interrupted call has left there is used. Every file is checked against the hub's sum.
// progress, if set, hears of the bytes that are there, of all.
func (c *Client) Fetch(ctx context.Context, s Source, dir string, progress func(done, total int64)) (Fetched, error) {
	got, err := c.fetch(ctx, s, dir, progress)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("fetch %s: %w", s, err)
	}
	return got, err
}

func (c *Client) fetch(ctx context.Context, s Source, dir string, progress func(done, total int64)) (Fetched, error) {
	snap, err := c.list(ctx, s)
	if err != nil {
		return Fetched{}, err
	}
	got := Fetched{Commit: snap.Commit, Path: filepath.Join(dir, strings.ReplaceAll(s.Repo, "/", "--"), snap.Commit)}
	if err := os.MkdirAll(got.Path, 0o755); err != nil {
		return got, err
	}
	unlock, err := lock(got.Path)
	if err != nil {
		return got, err
	}
	defer unlock()
	d := &download{Client: c, source: s, commit: snap.Commit, dir: got.Path, progress: progress}
	files, err := d.choose(ctx, snap.Files)
	if err != nil {
		return got, err
	}
	if err := d.known(ctx, files); err != nil {
		return got, err
	}
	for _, f := range files {
		d.total += f.size()
	}
	for _, f := range files {
		if err := d.file(ctx, f); err != nil {
			return got, err
		}
		got.Files = append(got.Files, f.Name)
	}
	got.Resumed = d.resumed
	if s.File != "" {
		got.Path = filepath.Join(got.Path, filepath.FromSlash(s.File))
	}
	return got, nil
}

// download is one call of Fetch.
type download struct {
	*Client
	source      Source
	commit, dir string
	progress    func(done, total int64)
	done, total int64
	resumed     int64
}

// choose lists the files that are needed, the small ones first.
func (d *download) choose(ctx context.Context, all []file) ([]file, error) {
	byName := map[string]file{}
	for _, f := range all {
		if local(f.Name) {
			byName[f.Name] = f
		}
	}
	if d.source.File != "" {
		f, ok := byName[d.source.File]
		if !ok {
			return nil, &Error{Message: fmt.Sprintf("%s has no file %s; its GGUF files are: %s", d.source.Repo, d.source.File, ggufs(all))}
		}
		return []file{f}, nil
	}
	if _, ok := byName["config.json"]; !ok {
		if list := ggufs(all); list != "" {
			return nil, &Error{Message: fmt.Sprintf("%s holds GGUF files: name one, hf:%s/FILE.gguf, of %s", d.source.Repo, d.source.Repo, list)}
		}
		return nil, &Error{Message: fmt.Sprintf("%s has no config.json: it is no model for transformers", d.source.Repo)}
	}
	var out []file
	_, hasJSON := byName["tokenizer.json"]
	for _, f := range all {
		if f, ok := byName[f.Name]; ok && small.MatchString(f.Name) && (f.Name != "tokenizer.model" || !hasJSON) {
			out = append(out, f)
		}
	}
	if f, ok := byName[weightsName]; ok {
		return append(out, f), nil
	}
	index, ok := byName[indexName]
	if !ok {
		return nil, &Error{Message: fmt.Sprintf("%s has neither %s nor %s: only weights as safetensors are taken", d.source.Repo, weightsName, indexName)}
	}
	first := []file{index}
	if err := d.known(ctx, first); err != nil {
		return nil, err
	}
	d.total = first[0].size()
	if err := d.file(ctx, first[0]); err != nil {
		return nil, err
	}
	shards, err := shardsOf(filepath.Join(d.dir, indexName))
	if err != nil {
		return nil, err
	}
	for _, name := range shards {
		f, ok := byName[name]
		if !ok || path.Base(name) != name {
			return nil, &Error{Message: fmt.Sprintf("%s lists the shard %s, which is not there", indexName, name)}
		}
		out = append(out, f)
	}
	return out, nil
}

func ggufs(all []file) string {
	var names []string
	for _, f := range all {
		if strings.HasSuffix(f.Name, ".gguf") && len(names) < 20 {
			names = append(names, f.Name)
		}
	}
	return strings.Join(names, ", ")
}

func shardsOf(path string) ([]string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var index struct {
		Map map[string]string `json:"weight_map"`
	}
	if len(raw) > maxIndex || json.Unmarshal(raw, &index) != nil || len(index.Map) == 0 {
		return nil, &Error{Message: indexName + " lists no shards"}
	}
	var out []string
	for _, name := range index.Map {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (f file) size() int64 {
	if f.LFS != nil {
		return f.LFS.Size
	}
	return f.Size
}

// sum is the checksum that the hub has for a file: SHA-256 of one in LFS, else git's.
func (f file) sum() (want string, h hash.Hash) {
	switch {
	case f.LFS != nil && sum256.MatchString(f.LFS.SHA256):
		return f.LFS.SHA256, sha256.New()
	case commit.MatchString(f.BlobID):
		h = sha1.New()
		fmt.Fprintf(h, "blob %d\x00", f.Size)
		return f.BlobID, h
	}
	return "", nil
}

// known asks for sizes and checksums of the files for which the list has none, as that of
// a mirror may: the header X-Linked-Etag of a file in LFS, else ETag.
func (d *download) known(ctx context.Context, files []file) error {
	for i := range files {
		f := &files[i]
		if want, _ := f.sum(); want != "" {
			continue
		}
		err := d.try(ctx, func() (bool, error) {
			h, err := d.head(ctx, d.address(f.Name))
			if err != nil {
				return false, err
			}
			if h.StatusCode >= 400 {
				return false, d.fault(h, d.source, f.Name)
			}
			tag, size := h.Header.Get("X-Linked-Etag"), h.Header.Get("X-Linked-Size")
			if tag == "" {
				tag, size = h.Header.Get("ETag"), h.Header.Get("Content-Length")
			}
			tag = strings.Trim(strings.TrimPrefix(tag, "W/"), `"`)
			n, err := strconv.ParseInt(size, 10, 64)
			if err != nil || n < 0 || !sum256.MatchString(tag) && !commit.MatchString(tag) {
				return false, &Error{Message: fmt.Sprintf("the hub tells neither size nor checksum of %s", f.Name)}
			}
			f.Size, f.BlobID = n, tag
			if sum256.MatchString(tag) {
				f.LFS = &blob{SHA256: tag, Size: n}
			}
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

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
		err := d.body(ctx, f, target+".part")
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
	return fmt.Sprintf("%s came with the checksum %.12s…, the hub has %.12s…: it was damaged on the way", e.name, e.got, e.want)
}

func (d *download) add(n int64) {
	d.done += n
	if d.progress != nil {
		d.progress(d.done, max(d.total, d.done))
	}
}

// body brings a file's bytes to part, with as many requests as it takes.
func (d *download) body(ctx context.Context, f file, part string) (err error) {
	want, sum := f.sum()
	if sum == nil {
		return &Error{Message: fmt.Sprintf("the hub has no checksum for %s", f.Name)}
	}
	out, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	have, err := io.Copy(sum, io.LimitReader(out, f.size()))
	if err != nil {
		return err
	}
	if st, err := out.Stat(); err != nil || st.Size() > f.size() { // of another file
		if err := errors.Join(err, out.Truncate(0)); err != nil {
			return err
		}
		have, sum = 0, fresh(f)
	}
	d.resumed += have
	d.add(have)
	err = d.try(ctx, func() (bool, error) {
		if have == f.size() {
			return true, nil
		}
		res, err := d.get(ctx, d.address(f.Name), have)
		if err != nil {
			return false, err
		}
		defer res.Body.Close()
		switch res.StatusCode {
		case http.StatusOK: // from the beginning, whatever was asked for
			if have > 0 {
				d.done -= have
				have, sum = 0, fresh(f)
				if err := out.Truncate(0); err != nil {
					return false, err
				}
			}
		case http.StatusPartialContent:
			if !strings.HasPrefix(res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", have)) {
				return false, &Error{Message: fmt.Sprintf("%s: asked for the bytes from %d on, the server sends %q", f.Name, have, res.Header.Get("Content-Range"))}
			}
		default:
			return false, d.fault(res, d.source, f.Name)
		}
		if _, err := out.Seek(have, io.SeekStart); err != nil {
			return false, err
		}
		n, err := io.Copy(io.MultiWriter(out, sum, adder{d}), io.LimitReader(res.Body, f.size()-have))
		have += n
		if have < f.size() && err == nil {
			err = fmt.Errorf("%s: %w after %d of %d bytes", f.Name, io.ErrUnexpectedEOF, have, f.size())
		}
		if errors.Is(err, fs.ErrInvalid) || isDiskFault(err) {
			err = &Error{Message: err.Error()}
		}
		return n > 0, err
	})
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		if err := out.Truncate(0); err != nil {
			return err
		}
		return &sumError{f.Name, got, want}
	}
	return out.Sync()
}

func fresh(f file) hash.Hash { _, h := f.sum(); return h }

// isDiskFault says that writing failed, which asking the server again does not mend.
func isDiskFault(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p)
}

type adder struct{ d *download }

func (a adder) Write(p []byte) (int, error) {
	a.d.add(int64(len(p)))
	return len(p), nil
}
