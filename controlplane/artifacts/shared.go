package artifacts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/tunemesh/tunemesh/api"
)

// JoinMultipart is BeginMultipart for bytes that several senders may bring at
// once, each by itself: they share one upload of the key, and so does who comes
// after one that was killed. It returns the parts that are there.
func (s *Store) JoinMultipart(ctx context.Context, bucket, key, id string, size int64, sum string) (m api.Multipart, err error) {
	// One at a time, so that two who come at once find each other. Of two servers
	// that both lead for a moment each may begin one: both become the same object.
	s.joining.Lock()
	defer s.joining.Unlock()
	if done, err := s.stored(ctx, bucket, key, size, sum); err != nil || done {
		return api.Multipart{UploadID: id, Done: done}, err
	}
	known, err := s.uploadsOf(ctx, bucket, key)
	if err != nil {
		return m, err
	}
	if id != "" {
		known = append([]string{id}, known...)
	}
	for _, id := range known {
		m.UploadID = id
		m.Parts, err = s.parts(ctx, bucket, key, id)
		if !errors.Is(err, ErrNoUpload) {
			return m, err
		}
	}
	m.UploadID, err = s.newUpload(ctx, bucket, key, sum)
	return m, err
}

// uploadsOf lists the ids of a key's multipart uploads, the oldest first.
func (s *Store) uploadsOf(ctx context.Context, bucket, key string) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the listing
	defer cancel()
	var oldest time.Time
	var ids []string
	for u := range s.s3.ListIncompleteUploads(ctx, bucket, key, true) {
		if u.Err != nil {
			return nil, fmt.Errorf("artifacts: list uploads of %s/%s: %w", bucket, key, u.Err)
		}
		if u.Key != key {
			continue
		}
		if len(ids) > 0 && cmp.Or(u.Initiated.Compare(oldest), cmp.Compare(u.UploadID, ids[0])) < 0 {
			ids = append([]string{u.UploadID}, ids...)
		} else {
			ids = append(ids, u.UploadID)
		}
		if ids[0] == u.UploadID {
			oldest = u.Initiated
		}
	}
	return ids, nil
}

// Present says which artifacts are in the store as Verify wants them, in their
// order.
func (s *Store) Present(ctx context.Context, list []api.Artifact) ([]bool, error) {
	there := make([]bool, len(list))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range list {
		g.Go(func() error {
			err := s.Verify(ctx, list[i:i+1])
			var missing *MissingError
			if errors.As(err, &missing) {
				return nil
			}
			there[i] = err == nil
			return err
		})
	}
	return there, g.Wait()
}

// Adopt copies an object to where its SHA-256 says, within the store, unless it is
// there already. Its bytes are still to be verified.
func (s *Store) Adopt(ctx context.Context, from api.Artifact, key string) error {
	return s.copyObject(ctx, from.Bucket, from.Key, from.Bucket, key, from.Size, from.SHA256, true)
}

// Remove removes an object; one that is not there is removed.
func (s *Store) Remove(ctx context.Context, bucket, key string) error {
	if err := s.s3.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{}); err != nil && !notFound(err) {
		return fmt.Errorf("artifacts: remove %s/%s: %w", bucket, key, err)
	}
	return nil
}
