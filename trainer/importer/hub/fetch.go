package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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

// Hooks hear of a Fetch; each may be nil.
type Hooks struct {
	// Progress hears of the bytes that are there, of all.
	Progress func(done, total int64)
	// Check looks at what there is before the weights are fetched: at the folder with all
	// other files, or at a file with the first MiB of the GGUF file. Its error ends the Fetch,
	// and what was fetched is removed. weights is how many bytes are still to come.
	Check func(path string, weights int64) error
}

// headBytes are as much of a GGUF file as Hooks.Check sees. What the model is stands at its
// beginning, before the vocabulary.
const headBytes = 1 << 20

// Fetch downloads what an import needs of a revision into dir/ORG--NAME/COMMIT. What an
// interrupted call has left there is used. Every file is checked against the hub's sum. After
// an error what came stays there for the next call, unless nothing did or h.Check refused it.
func (c *Client) Fetch(ctx context.Context, s Source, dir string, h Hooks) (Fetched, error) {
	got, err := c.fetch(ctx, s, dir, h)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("fetch %s: %w", s, err)
	}
	return got, err
}

func (c *Client) fetch(ctx context.Context, s Source, dir string, h Hooks) (Fetched, error) {
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
	d := &download{Client: c, source: s, commit: snap.Commit, dir: got.Path, hooks: h}
	files, err := d.all(ctx, snap.Files)
	if err != nil {
		var refused *refusedError
		if left, _ := os.ReadDir(got.Path); errors.As(err, &refused) || len(left) == 1 { // the lock
			got.Drop()
		}
		return got, err
	}
	for _, f := range files {
		got.Files = append(got.Files, f.Name)
	}
	got.Resumed = d.resumed
	if s.File != "" {
		got.Path = filepath.Join(got.Path, filepath.FromSlash(s.File))
	}
	return got, nil
}

// Drop removes what was fetched; what cannot be removed does no harm.
func (f Fetched) Drop() {
	if f.Commit == "" { // nothing was
		return
	}
	dir := f.Path
	for filepath.Base(dir) != f.Commit {
		dir = filepath.Dir(dir)
	}
	_ = os.RemoveAll(dir)
	_ = os.Remove(filepath.Dir(dir)) // the model's, if no other commit is there
}

// refusedError is what Hooks.Check had against a model.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// download is one call of Fetch.
type download struct {
	*Client
	source      Source
	commit, dir string
	hooks       Hooks
	done, total int64
	resumed     int64
}

// all fetches what is needed: what tells whether the model can be used, then the weights.
func (d *download) all(ctx context.Context, there []file) ([]file, error) {
	first, weights, err := d.choose(there)
	if err != nil {
		return nil, err
	}
	for _, files := range [][]file{first, weights} {
		if err := d.count(ctx, files); err != nil {
			return nil, err
		}
	}
	if err := d.some(ctx, first); err != nil {
		return nil, err
	}
	if weights == nil {
		if weights, err = d.shards(there); err == nil {
			err = d.count(ctx, weights)
		}
		if err != nil {
			return nil, err
		}
	}
	if d.source.File == "" && d.hooks.Check != nil {
		var size int64
		for _, f := range weights {
			size += f.size()
		}
		if err := d.hooks.Check(d.dir, size); err != nil {
			return nil, &refusedError{err}
		}
	}
	return append(first, weights...), d.some(ctx, weights)
}

// count adds files to what is to be fetched.
func (d *download) count(ctx context.Context, files []file) error {
	err := d.known(ctx, files)
	for _, f := range files {
		d.total += f.size()
	}
	return err
}

// some fetches files, one after the other.
func (d *download) some(ctx context.Context, files []file) error {
	for _, f := range files {
		if err := d.file(ctx, f); err != nil {
			return err
		}
	}
	return nil
}
