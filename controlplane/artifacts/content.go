package artifacts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/tunemesh/tunemesh/api"
)

// ContentError says that an object's bytes are not those that were announced.
type ContentError struct {
	Artifact api.Artifact
	Got      string // SHA-256 found
}

func (e *ContentError) Error() string {
	return fmt.Sprintf("artifact %q has the SHA-256 %s in the object store, announced was %s (%s/%s)", e.Artifact.Name, e.Got, e.Artifact.SHA256, e.Artifact.Bucket, e.Artifact.Key)
}

// VerifyContent is Verify for what nobody else will check before it is used: it reads
// every byte, and returns a *ContentError for other bytes than announced.
func (s *Store) VerifyContent(ctx context.Context, list []api.Artifact) error {
	if err := s.Verify(ctx, list); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for _, a := range list {
		r, err := s.Get(ctx, a.Bucket, a.Key)
		if err != nil {
			return err
		}
		sum := sha256.New()
		_, err = io.CopyBuffer(sum, onlyReader{r}, buf)
		_ = r.Close() // all is read
		if err != nil {
			return fmt.Errorf("artifacts: read %s/%s: %w", a.Bucket, a.Key, err)
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != a.SHA256 {
			return &ContentError{Artifact: a, Got: got}
		}
	}
	return nil
}

// onlyReader hides every other method, so that the buffer is used.
type onlyReader struct{ io.Reader }
