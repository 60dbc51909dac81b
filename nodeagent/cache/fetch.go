package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tunemesh/tunemesh/api/transfer"
)

// anew is how often a file is fetched from its beginning: a connection that
// brings wrong bytes once may bring the right ones the next time.
const anew = 3

// fetch transfers an item into blobs, over as many requests as it takes.
func (c *Cache) fetch(ctx context.Context, it Item) error {
	for n := 1; ; n++ {
		err := c.transfer(ctx, it)
		if !errors.Is(err, ErrCorrupt) || n == anew {
			return err
		}
	}
}

// transfer brings what is missing of an item, and seals the file if it is whole
// then. Of wrong bytes nothing stays.
func (c *Cache) transfer(ctx context.Context, it Item) error {
	path := c.partial(it.SHA256)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	defer f.Close()
	d := transfer.Download{Link: it.URL, Size: it.Size, SHA256: it.SHA256, To: f, Sum: sha256.New()}
	if d.Have, err = io.Copy(d.Sum, f); err != nil { // what an earlier request brought
		return fmt.Errorf("cache: %w", err)
	}
	err = c.client.Fetch(ctx, &d)
	if errors.Is(err, ErrCorrupt) {
		_ = os.Remove(path)
	}
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return c.seal(f, it)
}

// seal turns a whole partial file into a blob.
func (c *Cache) seal(f *os.File, it Item) error {
	blob := c.blob(it.SHA256)
	err := os.MkdirAll(filepath.Dir(blob), 0o750)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), blob)
	}
	// The seal comes last: a blob without it is hashed again before it is used.
	if err == nil {
		err = f.Chmod(0o440)
	}
	if err == nil {
		err = os.Chtimes(blob, sealed, sealed)
	}
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
