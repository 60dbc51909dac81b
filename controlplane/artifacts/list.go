package artifacts

import (
	"context"
	"fmt"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/tunemesh/tunemesh/api"
)

// ModelPrefix is where users may lay a base model's files themselves, to have them
// imported: beside the folders that ModelKey makes.
func ModelPrefix(model string) string { return "base/" + model + "/" }

// List names the objects that lie directly under a prefix, at most most of them, without
// their folders. The objects' hashes are not known.
func (s *Store) List(ctx context.Context, bucket, prefix string, most int) ([]api.Artifact, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the listing early
	defer cancel()
	var out []api.Artifact
	for o := range s.s3.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return nil, fmt.Errorf("artifacts: list %s/%s: %w", bucket, prefix, o.Err)
		}
		name := strings.TrimPrefix(o.Key, prefix)
		if name == "" || strings.Contains(name, "/") {
			continue
		}
		if len(out) == most {
			return nil, fmt.Errorf("artifacts: more than %d objects under %s/%s", most, bucket, prefix)
		}
		out = append(out, api.Artifact{Name: name, Size: o.Size, Bucket: bucket, Key: o.Key})
	}
	return out, ctx.Err()
}
