package artifacts

import (
	"context"
	"fmt"

	"github.com/minio/minio-go/v7"
)

// Count lists a bucket and returns how many objects it has, and their bytes.
func (s *Store) Count(ctx context.Context, bucket string) (objects, bytes int64, err error) {
	ctx, cancel := context.WithCancel(ctx) // ends the listing after a fault
	defer cancel()
	for o := range s.s3.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			return 0, 0, fmt.Errorf("artifacts: count bucket %s: %w", bucket, o.Err)
		}
		objects++
		bytes += o.Size
	}
	return objects, bytes, ctx.Err()
}
