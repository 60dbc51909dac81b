package artifacts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/tunemesh/tunemesh/api"
)

// ErrNoUpload: a multipart upload is not there, or not any more.
var ErrNoUpload = errors.New("no such multipart upload")

// IncompleteError says that a multipart upload lacks parts, or holds others.
type IncompleteError struct{ Reason string }

func (e *IncompleteError) Error() string { return "the multipart upload is not whole: " + e.Reason }

// BeginMultipart starts a multipart upload of an object with the SHA-256 as its
// metadata, or goes on with the one of that id: then it returns the parts that
// are there. Other uploads of the key are given up: an attempt's file has one
// sender. Where the object is stored already it returns done.
func (s *Store) BeginMultipart(ctx context.Context, bucket, key, id string, size int64, sum string) (m api.Multipart, err error) {
	m.UploadID = id
	if done, err := s.stored(ctx, bucket, key, size, sum); err != nil || done {
		m.Done = done
		return m, err
	}
	if id != "" {
		m.Parts, err = s.parts(ctx, bucket, key, id)
		if !errors.Is(err, ErrNoUpload) {
			return m, err
		}
	}
	if err := s.AbortMultipart(ctx, bucket, key, ""); err != nil {
		return m, err
	}
	m.UploadID, err = s.newUpload(ctx, bucket, key, sum)
	return m, err
}

func (s *Store) newUpload(ctx context.Context, bucket, key, sum string) (id string, err error) {
	opts := minio.PutObjectOptions{
		UserMetadata: map[string]string{metaSHA256: sum, "X-Amz-Checksum-Algorithm": "SHA256"},
	}
	if id, err = (minio.Core{Client: s.s3}).NewMultipartUpload(ctx, bucket, key, opts); err != nil {
		return "", fmt.Errorf("artifacts: begin upload of %s/%s: %w", bucket, key, err)
	}
	return id, nil
}

// stored says whether an object is there with its size and SHA-256.
func (s *Store) stored(ctx context.Context, bucket, key string, size int64, sum string) (bool, error) {
	info, err := s.s3.StatObject(ctx, bucket, key, minio.StatObjectOptions{})
	switch {
	case notFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("artifacts: stat %s/%s: %w", bucket, key, err)
	}
	return info.Size == size && info.UserMetadata[metaSHA256] == sum, nil
}

// PresignPart is a link to send one part by, sealed to its SHA-256.
func (s *Store) PresignPart(ctx context.Context, bucket, key, id string, part api.UploadPart) (string, error) {
	checksum, err := base64Of(part.SHA256)
	if err != nil {
		return "", fmt.Errorf("artifacts: presign part %d of %s/%s: %w", part.Number, bucket, key, err)
	}
	query := url.Values{"partNumber": {strconv.Itoa(part.Number)}, "uploadId": {id}}
	h := http.Header{}
	h.Set(headerChecksum, checksum)
	u, err := s.signer.PresignHeader(ctx, http.MethodPut, bucket, key, s.ttl, query, h)
	if err != nil {
		return "", fmt.Errorf("artifacts: presign part %d of %s/%s: %w", part.Number, bucket, key, err)
	}
	return u.String(), nil
}

// CompleteMultipart makes the parts that the store holds one object of size
// bytes. An *IncompleteError says that they are not the whole of it, ErrNoUpload
// that there is no such upload. To repeat it is no harm.
func (s *Store) CompleteMultipart(ctx context.Context, bucket, key, id string, size int64, sum string) error {
	parts, err := s.listParts(ctx, bucket, key, id)
	if errors.Is(err, ErrNoUpload) {
		if done, err := s.stored(ctx, bucket, key, size, sum); err != nil || done {
			return err
		}
	}
	if err != nil {
		return err
	}
	var total int64
	list := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		if p.PartNumber != i+1 {
			return &IncompleteError{fmt.Sprintf("part %d is missing", i+1)}
		}
		total += p.Size
		list[i] = minio.CompletePart{PartNumber: p.PartNumber, ETag: p.ETag, ChecksumSHA256: p.ChecksumSHA256}
	}
	if total != size {
		return &IncompleteError{fmt.Sprintf("its %d parts have %d bytes, want %d", len(parts), total, size)}
	}
	_, err = minio.Core{Client: s.s3}.CompleteMultipartUpload(ctx, bucket, key, id, list, minio.PutObjectOptions{})
	if err != nil {
		switch minio.ToErrorResponse(err).Code {
		case "InvalidPart", "InvalidPartOrder", "EntityTooSmall", "NoSuchUpload":
			if done, statErr := s.stored(ctx, bucket, key, size, sum); statErr == nil && done {
				return nil // an answer was lost
			}
			return &IncompleteError{err.Error()}
		}
		return fmt.Errorf("artifacts: complete %s/%s: %w", bucket, key, err)
	}
	return nil
}

// AbortMultipart gives up the upload of that id, or all of the key's where id is
// empty.
func (s *Store) AbortMultipart(ctx context.Context, bucket, key, id string) error {
	core := minio.Core{Client: s.s3}
	ids := []string{id}
	if id == "" {
		var err error
		if ids, err = s.uploadsOf(ctx, bucket, key); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := core.AbortMultipartUpload(ctx, bucket, key, id); err != nil && !noUpload(err) {
			return fmt.Errorf("artifacts: give up the upload of %s/%s: %w", bucket, key, err)
		}
	}
	return nil
}

// parts are those that the store has of an upload and whose SHA-256 it knows.
func (s *Store) parts(ctx context.Context, bucket, key, id string) ([]api.UploadPart, error) {
	list, err := s.listParts(ctx, bucket, key, id)
	if err != nil {
		return nil, err
	}
	out := make([]api.UploadPart, 0, len(list))
	for _, p := range list {
		if sum := hexOf(p.ChecksumSHA256); sum != "" {
			out = append(out, api.UploadPart{Number: p.PartNumber, Size: p.Size, SHA256: sum})
		}
	}
	return out, nil
}

func (s *Store) listParts(ctx context.Context, bucket, key, id string) ([]minio.ObjectPart, error) {
	core, marker := minio.Core{Client: s.s3}, 0
	var out []minio.ObjectPart
	for {
		page, err := core.ListObjectParts(ctx, bucket, key, id, marker, 1000)
		if noUpload(err) {
			return nil, fmt.Errorf("artifacts: upload of %s/%s: %w", bucket, key, ErrNoUpload)
		}
		if err != nil {
			return nil, fmt.Errorf("artifacts: list parts of %s/%s: %w", bucket, key, err)
		}
		out = append(out, page.ObjectParts...)
		if !page.IsTruncated || page.NextPartNumberMarker <= marker {
			return out, nil
		}
		marker = page.NextPartNumberMarker
	}
}

func noUpload(err error) bool {
	return err != nil && minio.ToErrorResponse(err).Code == "NoSuchUpload"
}

// SweepUploads gives up multipart uploads of attempts and base models that began
// longer than age ago and that nobody is at any more: live says whether an
// attempt is, by the fence in the key. Who is killed leaves such uploads, and
// their parts cost space that no listing of objects shows. It returns how many
// it gave up.
func (s *Store) SweepUploads(ctx context.Context, age time.Duration, live func(fence uint64) bool) (int, error) {
	before := time.Now().Add(-age)
	var faults []error
	count := 0
	for _, bucket := range api.Buckets {
		for u := range s.s3.ListIncompleteUploads(ctx, bucket, "", true) {
			if u.Err != nil {
				faults = append(faults, u.Err)
				break
			}
			fence, ours := fenceOf(bucket, u.Key)
			if ours && live(fence) || !ours && !ofModel(bucket, u.Key) || u.Initiated.After(before) {
				continue
			}
			err := s.AbortMultipart(ctx, bucket, u.Key, u.UploadID)
			if err == nil {
				count++
			}
			faults = append(faults, err)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return count, fmt.Errorf("artifacts: sweep uploads: %w", err)
	}
	return count, nil
}
