package artifacts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sync/errgroup"

	"github.com/tunemesh/tunemesh/api"
)

const (
	// partSize of multipart uploads in bytes. It is also what one upload of
	// unknown length holds in memory; 10,000 parts make 160 GiB.
	partSize = 16 << 20
	// copyLimit is the largest object that S3 copies in one call.
	copyLimit = 5 << 30
	// metaSHA256 is the metadata key that carries an object's SHA-256, in the
	// spelling that S3 answers with.
	metaSHA256 = "Sha256"
	region     = "us-east-1"
)

// Config says where the object store is.
type Config struct {
	Endpoint  string // host:port
	Secure    bool   // https
	AccessKey string
	SecretKey string
	// Public is the host:port that presigned URLs name; empty: Endpoint.
	Public string
	// URLTTL is how long presigned URLs live; 0 means 12 hours, S3 allows 7 days
	// at most.
	URLTTL time.Duration
}

// Store reads and writes the object store. It is safe for concurrent use.
type Store struct {
	s3        *minio.Client
	signer    *minio.Client
	ttl       time.Duration
	transport *http.Transport
	joining   sync.Mutex // whoever looks for another's upload and begins one
}

// Open is New and Prepare.
func Open(ctx context.Context, c Config) (*Store, error) {
	s, err := New(c)
	if err != nil {
		return nil, err
	}
	if err := s.Prepare(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// New returns a Store. It sends nothing yet.
func New(c Config) (*Store, error) {
	transport := &http.Transport{
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       60 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute, // completing a large upload takes a while
		TLSHandshakeTimeout:   10 * time.Second,
		DisableCompression:    true,
	}
	s3, err := connect(c.Endpoint, c, transport)
	if err != nil {
		return nil, err
	}
	signer := s3
	if c.Public != "" && c.Public != c.Endpoint {
		if signer, err = connect(c.Public, c, transport); err != nil {
			return nil, err
		}
	}
	s := &Store{s3: s3, signer: signer, ttl: c.URLTTL, transport: transport}
	if s.ttl == 0 {
		s.ttl = 12 * time.Hour
	}
	return s, nil
}

// Prepare makes the buckets that are missing. IsRefusal tells what of its errors
// asking again will not mend.
func (s *Store) Prepare(ctx context.Context) error {
	for _, bucket := range api.Buckets {
		if err := s.makeBucket(ctx, bucket); err != nil {
			return err
		}
	}
	return nil
}

// IsRefusal says whether an error is the answer of an object store that is there
// and says no: the keys are wrong, or they may not do this.
func IsRefusal(err error) bool {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.Code {
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccountProblem", "InvalidBucketName",
		"XAdminUserNotFound": // versitygw's word for an unknown access key
		return true
	}
	return answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden
}

func connect(endpoint string, c Config, t *http.Transport) (*minio.Client, error) {
	client, err := minio.New(endpoint, &minio.Options{
		Creds:        credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""),
		Secure:       c.Secure,
		Region:       region,
		Transport:    t,
		BucketLookup: minio.BucketLookupPath,
		MaxRetries:   4,
	})
	if err != nil {
		return nil, fmt.Errorf("artifacts: object store at %q: %w", endpoint, err)
	}
	return client, nil
}

func (s *Store) makeBucket(ctx context.Context, bucket string) error {
	there, err := s.s3.BucketExists(ctx, bucket)
	if err != nil {
		return fmt.Errorf("artifacts: look for bucket %s: %w", bucket, err)
	}
	if there {
		return nil
	}
	err = s.s3.MakeBucket(ctx, bucket, minio.MakeBucketOptions{Region: region})
	switch minio.ToErrorResponse(err).Code {
	case "BucketAlreadyOwnedByYou", "BucketAlreadyExists": // another server was faster
		return nil
	}
	if err != nil {
		return fmt.Errorf("artifacts: make bucket %s: %w", bucket, err)
	}
	return nil
}

// Close drops idle connections.
func (s *Store) Close() { s.transport.CloseIdleConnections() }

// Ping returns nil when the object store answers.
func (s *Store) Ping(ctx context.Context) error {
	there, err := s.s3.BucketExists(ctx, api.BucketArtifacts)
	if err != nil {
		return fmt.Errorf("artifacts: object store: %w", err)
	}
	if !there {
		return fmt.Errorf("artifacts: bucket %s is missing", api.BucketArtifacts)
	}
	return nil
}

// PresignGet returns a link that anybody may read the object by until it ends.
func (s *Store) PresignGet(ctx context.Context, bucket, key string) (string, error) {
	u, err := s.signer.PresignedGetObject(ctx, bucket, key, s.ttl, url.Values{})
	if err != nil {
		return "", fmt.Errorf("artifacts: presign GET %s/%s: %w", bucket, key, err)
	}
	return u.String(), nil
}

// PresignPut returns a link to write the object with one plain PUT (at most
// 5 GiB).
func (s *Store) PresignPut(ctx context.Context, bucket, key string) (string, error) {
	u, err := s.signer.PresignedPutObject(ctx, bucket, key, s.ttl)
	if err != nil {
		return "", fmt.Errorf("artifacts: presign PUT %s/%s: %w", bucket, key, err)
	}
	return u.String(), nil
}

// MissingError says that a reported artifact is not there as reported.
type MissingError struct {
	Artifact api.Artifact
	Got      int64 // size found, -1 for no object
}

func (e *MissingError) Error() string {
	if e.Got < 0 {
		return fmt.Sprintf("artifact %q is not in the object store (%s/%s)", e.Artifact.Name, e.Artifact.Bucket, e.Artifact.Key)
	}
	return fmt.Sprintf("artifact %q has %d bytes in the object store, reported were %d (%s/%s)", e.Artifact.Name, e.Got, e.Artifact.Size, e.Artifact.Bucket, e.Artifact.Key)
}

// Verify returns a *MissingError if an artifact is not in the object store with
// its size (and, where the object carries it, its SHA-256), so that a manifest
// never names what is not there. Any other error means that the store could not
// be asked.
func (s *Store) Verify(ctx context.Context, list []api.Artifact) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, a := range list {
		g.Go(func() error {
			info, err := s.s3.StatObject(ctx, a.Bucket, a.Key, minio.StatObjectOptions{})
			switch {
			case notFound(err):
				return &MissingError{Artifact: a, Got: -1}
			case err != nil:
				return fmt.Errorf("artifacts: stat %s/%s: %w", a.Bucket, a.Key, err)
			case info.Size != a.Size:
				return &MissingError{Artifact: a, Got: info.Size}
			}
			if sum := info.UserMetadata[metaSHA256]; sum != "" && sum != a.SHA256 {
				return fmt.Errorf("artifacts: %s/%s has SHA-256 %s, reported was %s: %w", a.Bucket, a.Key, sum, a.SHA256, &MissingError{Artifact: a, Got: info.Size})
			}
			return nil
		})
	}
	return g.Wait()
}

func notFound(err error) bool {
	switch minio.ToErrorResponse(err).Code {
	case "NoSuchKey", "NoSuchBucket", "NotFound":
		return true
	}
	return false
}

// PutFile uploads a local file with its SHA-256 as metadata.
func (s *Store) PutFile(ctx context.Context, bucket, key, file string) (api.Artifact, error) {
	f, err := os.Open(file)
	if err != nil {
		return api.Artifact{}, fmt.Errorf("artifacts: upload %s: %w", key, err)
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return api.Artifact{}, fmt.Errorf("artifacts: upload %s: %w", key, err)
	}
	return s.put(ctx, bucket, key, f, size, hex.EncodeToString(sum.Sum(nil)))
}

// PutBytes uploads data with its SHA-256 as metadata.
func (s *Store) PutBytes(ctx context.Context, bucket, key string, data []byte) (api.Artifact, error) {
	return s.put(ctx, bucket, key, bytes.NewReader(data), int64(len(data)), sumOfBytes(data))
}

func sumOfBytes(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (s *Store) put(ctx context.Context, bucket, key string, r io.Reader, size int64, sum string) (api.Artifact, error) {
	a := api.Artifact{Name: key, Bucket: bucket, Key: key, Size: size, SHA256: sum}
	opts := minio.PutObjectOptions{PartSize: partSize, NumThreads: 2, UserMetadata: map[string]string{metaSHA256: sum}}
	if _, err := s.s3.PutObject(ctx, bucket, key, r, size, opts); err != nil {
		return a, fmt.Errorf("artifacts: upload %s/%s: %w", bucket, key, err)
	}
	return a, nil
}

// Get opens an object; its bytes come as they are read.
func (s *Store) Get(ctx context.Context, bucket, key string) (io.ReadCloser, error) {
	o, err := s.s3.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err == nil {
		_, err = o.Stat()
	}
	if err != nil {
		if o != nil {
			err = errors.Join(err, o.Close())
		}
		return nil, fmt.Errorf("artifacts: read %s/%s: %w", bucket, key, err)
	}
	return o, nil
}
