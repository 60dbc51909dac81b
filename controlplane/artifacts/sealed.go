package artifacts

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
)

// Headers that a sealed link makes its user send. The store compares the first
// with the bytes that come and refuses others (Amazon S3 API reference, PutObject
// and UploadPart); the second stays with the object and is what Verify asks for.
const (
	headerChecksum = "x-amz-checksum-sha256"
	headerSHA256   = "x-amz-meta-sha256"
)

// PresignSealedPut is PresignPut for known bytes: its signature covers their
// SHA-256 (hex), so that the store takes no others. Whoever uses the link must
// send the headers that its X-Amz-SignedHeaders names.
func (s *Store) PresignSealedPut(ctx context.Context, bucket, key, sum string) (string, error) {
	checksum, err := base64Of(sum)
	if err != nil {
		return "", fmt.Errorf("artifacts: presign PUT %s/%s: %w", bucket, key, err)
	}
	h := http.Header{}
	h.Set(headerChecksum, checksum)
	h.Set(headerSHA256, sum)
	u, err := s.signer.PresignHeader(ctx, http.MethodPut, bucket, key, s.ttl, url.Values{}, h)
	if err != nil {
		return "", fmt.Errorf("artifacts: presign PUT %s/%s: %w", bucket, key, err)
	}
	return u.String(), nil
}

// base64Of is the spelling of a SHA-256 that S3's checksum headers have.
func base64Of(sum string) (string, error) {
	raw, err := hex.DecodeString(sum)
	if err != nil || len(raw) != 32 {
		return "", fmt.Errorf("%q is no SHA-256 in hex", sum)
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}

// hexOf undoes base64Of; empty for anything else.
func hexOf(checksum string) string {
	raw, err := base64.StdEncoding.DecodeString(checksum)
	if err != nil || len(raw) != 32 {
		return ""
	}
	return hex.EncodeToString(raw)
}
