package artifacts

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/tunemesh/tunemesh/api"
)

// ProbePrefix is where probes lie in the bucket artifacts. No job has this name:
// jobs are ULIDs.
const ProbePrefix = "scratch/doctor/"

const (
	// probeTime is how long a probe's links are good.
	probeTime = 10 * time.Minute
	// probeLeft is the age from which on a probe is one that somebody left behind.
	probeLeft = time.Hour
	// probesSwept bounds how many of those are deleted at once.
	probesSwept = 100
	// probeBytes is how much a probe should have.
	probeBytes = 1 << 20
)

// Probe returns links to write, read and delete one object, and deletes what
// others left behind.
func (s *Store) Probe(ctx context.Context, id string, now time.Time) (api.StoreProbe, error) {
	p := api.StoreProbe{ID: id, Bucket: api.BucketArtifacts, Key: ProbePrefix + id, ExpiresAt: now.Add(probeTime).UTC(), MaxBytes: probeBytes, Time: now.UTC()}
	for method, to := range map[string]*string{http.MethodPut: &p.PutURL, http.MethodGet: &p.GetURL, http.MethodDelete: &p.DeleteURL} {
		u, err := s.signer.Presign(ctx, method, p.Bucket, p.Key, probeTime, url.Values{})
		if err != nil {
			return p, fmt.Errorf("artifacts: presign %s %s/%s: %w", method, p.Bucket, p.Key, err)
		}
		*to = u.String()
	}
	return p, s.sweepProbes(ctx, now)
}

func (s *Store) sweepProbes(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithCancel(ctx) // ends the listing early
	defer cancel()
	seen := 0
	for o := range s.s3.ListObjects(ctx, api.BucketArtifacts, minio.ListObjectsOptions{Prefix: ProbePrefix, Recursive: true, MaxKeys: probesSwept}) {
		if o.Err != nil {
			return fmt.Errorf("artifacts: list %s/%s: %w", api.BucketArtifacts, ProbePrefix, o.Err)
		}
		if seen++; seen > probesSwept {
			return nil
		}
		if now.Sub(o.LastModified) < probeLeft {
			continue
		}
		if err := s.s3.RemoveObject(ctx, api.BucketArtifacts, o.Key, minio.RemoveObjectOptions{}); err != nil {
			return fmt.Errorf("artifacts: delete %s/%s: %w", api.BucketArtifacts, o.Key, err)
		}
	}
	return nil
}
