package artifacts

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/minio/minio-go/v7"

	"github.com/tunemesh/tunemesh/api"
)

// EventsKey is where a part of a job's events lies in the bucket artifacts: no
// two contents get one key.
func EventsKey(job string, last uint64, sum string) string {
	return job + "/events/" + strconv.FormatUint(last, 10) + "-" + sum[:12] + ".jsonl.zst"
}

// EventsName is the well-known name of a part of a job's events, counted from 1:
// JOB/events.jsonl.zst is all of a job that was never resumed.
func EventsName(job string, part int) string {
	if part <= 1 {
		return job + "/events.jsonl.zst"
	}
	return job + "/events." + strconv.Itoa(part) + ".jsonl.zst"
}

// PutEvents stores a file as a part of a job's events, with a copy under its
// well-known name. To do it again is no harm.
func (s *Store) PutEvents(ctx context.Context, job string, part int, last uint64, sum, file string) (api.Artifact, error) {
	a, err := s.PutFile(ctx, api.BucketArtifacts, EventsKey(job, last, sum), file)
	if err != nil {
		return a, err
	}
	if a.SHA256 != sum {
		return a, fmt.Errorf("artifacts: upload %s: the file has the SHA-256 %s, not %s", a.Key, a.SHA256, sum)
	}
	return a, s.copyObject(ctx, a.Bucket, a.Key, api.BucketArtifacts, EventsName(job, part), a.Size, a.SHA256, true)
}

// GetRange reads length bytes of an object from an offset on.
func (s *Store) GetRange(ctx context.Context, bucket, key string, offset, length int64) (io.ReadCloser, error) {
	opts := minio.GetObjectOptions{}
	err := opts.SetRange(offset, offset+length-1)
	if err != nil {
		return nil, fmt.Errorf("artifacts: read %s/%s: %w", bucket, key, err)
	}
	// Core makes exactly one request.
	o, _, _, err := minio.Core{Client: s.s3}.GetObject(ctx, bucket, key, opts)
	if err != nil {
		return nil, fmt.Errorf("artifacts: read %s/%s: %w", bucket, key, err)
	}
	return o, nil
}
