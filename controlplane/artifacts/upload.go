package artifacts

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/tunemesh/tunemesh/api"
)

// incoming is where datasets lie in their bucket until they are whole.
const incoming = "incoming/"

// cleanupTime bounds the removal of a broken upload's remains.
const cleanupTime = 20 * time.Second

// ErrEmpty: a dataset of no bytes.
var ErrEmpty = errors.New("the file is empty")

// SizeError says that a body was not as long as it was declared.
type SizeError struct{ Declared, Got int64 }

func (e *SizeError) Error() string {
	return fmt.Sprintf("the body has %d bytes, declared were %d", e.Got, e.Declared)
}

// Format returns a dataset's format by its name's ending, and the ending that
// its key gets.
func Format(name string) (format, extension string) {
	switch strings.ToLower(path.Ext(name)) {
	case ".csv":
		return "csv", "csv"
	case ".tsv", ".tab":
		return "tsv", "tsv"
	case ".jsonl", ".ndjson":
		return "jsonl", "jsonl"
	}
	return "auto", "data"
}

// PutDataset streams a dataset of size bytes (-1: not known) into the store and
// returns it with id, format, size, hash and key. The bytes go to a temporary
// key while they are hashed and are then copied to the content-addressed one,
// within the store. After an error nothing is left. Memory: one part, 16 MiB.
func (s *Store) PutDataset(ctx context.Context, name string, r io.Reader, size int64) (api.Dataset, error) {
	d := api.Dataset{Name: name}
	format, extension := Format(name)
	d.Format = format
	tmp := incoming + strings.ToLower(rand.Text())
	// Whether it worked or not, the temporary object goes; a cancelled request
	// must not keep that from happening.
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		_ = s.s3.RemoveObject(clean, api.BucketDatasets, tmp, minio.RemoveObjectOptions{})
	}()
	sum := sha256.New()
	count := &counter{r: io.TeeReader(r, sum), want: size}
	if _, err := s.s3.PutObject(ctx, api.BucketDatasets, tmp, count, size, minio.PutObjectOptions{PartSize: partSize, NumThreads: 1}); err != nil {
		s.dropIncomplete(ctx, tmp)
		if count.err != nil && count.err != io.EOF {
			err = errors.Join(count.err, err)
		}
		return d, fmt.Errorf("artifacts: upload dataset %q: %w", name, err)
	}
	if size >= 0 && count.n != size {
		return d, &SizeError{Declared: size, Got: count.n}
	}
	if count.n == 0 {
		return d, ErrEmpty
	}
	d.Size = count.n
	d.SHA256 = hex.EncodeToString(sum.Sum(nil))
	d.ID = "ds_" + d.SHA256[:16]
	d.Key = DatasetKey(d.ID, extension)
	// An id is 64 bits of the hash: should two files share one, the first stays.
	return d, s.copyObject(ctx, api.BucketDatasets, tmp, api.BucketDatasets, d.Key, d.Size, d.SHA256, false)
}

// dropIncomplete aborts what a broken multipart upload left; minio-go aborts by
// itself, but with the request's context, which may be what broke.
func (s *Store) dropIncomplete(ctx context.Context, key string) {
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	_ = s.s3.RemoveIncompleteUpload(clean, api.BucketDatasets, key)
}

// Sweep removes temporary objects and unfinished uploads of datasets that began
// longer than age ago: what a server left that was killed in an upload.
func (s *Store) Sweep(ctx context.Context, age time.Duration) error {
	before := time.Now().Add(-age)
	var faults []error
	for o := range s.s3.ListObjects(ctx, api.BucketDatasets, minio.ListObjectsOptions{Prefix: incoming, Recursive: true}) {
		if o.Err != nil {
			faults = append(faults, o.Err)
		} else if o.LastModified.Before(before) {
			faults = append(faults, s.s3.RemoveObject(ctx, api.BucketDatasets, o.Key, minio.RemoveObjectOptions{}))
		}
	}
	for u := range s.s3.ListIncompleteUploads(ctx, api.BucketDatasets, incoming, true) {
		if u.Err != nil {
			faults = append(faults, u.Err)
		} else if u.Initiated.Before(before) {
			faults = append(faults, s.s3.RemoveIncompleteUpload(ctx, api.BucketDatasets, u.Key))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("artifacts: sweep: %w", err)
	}
	return nil
}

// counter counts what was read, keeps the error that ended it, and makes a body
// that ends before its declared size an error. It also hides every other method
// of the reader, so that minio-go reads it once and in order.
type counter struct {
	r    io.Reader
	want int64
	n    int64
	err  error
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err == io.EOF && c.want >= 0 && c.n < c.want {
		err = &SizeError{Declared: c.want, Got: c.n}
	}
	if err != nil {
		c.err = err
	}
	return n, err
}
