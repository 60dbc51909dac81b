package hub

import (
	"context"
	"crypto/sha1" // git names a blob by it; not a defence against forgery
	"crypto/sha256"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

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
				return false, &Error{Message: fmt.Sprintf("the hub tells neither size nor checksum of %s", f.Name), Hint: "fetch the model from a hub that does, or with its own tools, and import the folder"}
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
