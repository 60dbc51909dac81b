package artifacts

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/minio/minio-go/v7"

	"github.com/tunemesh/tunemesh/api"
)

// errOther: there are other bytes under a key that must not change.
var errOther = errors.New("other bytes are there already")

// copyObject copies within the store, whatever the size, with the SHA-256 as
// metadata of the copy. It does nothing where an equal copy is there; another
// one is replaced or is errOther.
func (s *Store) copyObject(ctx context.Context, fromBucket, fromKey, toBucket, toKey string, size int64, sum string, replace bool) error {
	info, err := s.s3.StatObject(ctx, toBucket, toKey, minio.StatObjectOptions{})
	if err == nil && info.Size == size && info.UserMetadata[metaSHA256] == sum {
		return nil
	}
	if err == nil && !replace {
		return fmt.Errorf("artifacts: copy to %s/%s: %w", toBucket, toKey, errOther)
	}
	if err != nil && !notFound(err) {
		return fmt.Errorf("artifacts: stat %s/%s: %w", toBucket, toKey, err)
	}
	src := minio.CopySrcOptions{Bucket: fromBucket, Object: fromKey}
	dst := minio.CopyDestOptions{Bucket: toBucket, Object: toKey, ReplaceMetadata: true, UserMetadata: map[string]string{metaSHA256: sum}}
	if size >= copyLimit {
		_, err = s.s3.ComposeObject(ctx, dst, src)
	} else {
		_, err = s.s3.CopyObject(ctx, dst, src)
	}
	if err != nil {
		return fmt.Errorf("artifacts: copy %s/%s to %s/%s: %w", fromBucket, fromKey, toBucket, toKey, err)
	}
	return nil
}

// Publish copies a succeeded stage's well-known artifacts to JOB/NAME in the
// bucket artifacts, where people and dashboards look. It is idempotent; of two
// stages of a job with the same artifact the one published last is seen there.
func (s *Store) Publish(ctx context.Context, stage api.Stage) error {
	for _, a := range stage.Artifacts {
		name := path.Base(a.Name)
		if !slices.Contains(wellKnown, name) {
			continue
		}
		if err := s.copyObject(ctx, a.Bucket, a.Key, api.BucketArtifacts, stage.JobID+"/"+name, a.Size, a.SHA256, true); err != nil {
			return fmt.Errorf("publish %s of stage %s: %w", name, stage.Name, err)
		}
	}
	return nil
}
