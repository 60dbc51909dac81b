package artifacts

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	vgwauth "github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
)

// orders is the one line of JSON that a child gets on its standard input. Keys
// travel here and not in arguments or environment, which other users can read.
type orders struct {
	Data      string `json:"data"` // folder of the buckets
	Sidecar   string `json:"sidecar,omitempty"`
	Address   string `json:"address"` // 127.0.0.1:PORT
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

// Limits of the child: connections beyond them wait or are told to slow down.
const (
	childConnections = 1024
	childRequests    = 512
)

// RunChild is the whole life of the embedded S3 server's process: it reads its
// orders from standard input, serves, and ends when standard input does, which
// is when its parent is gone. It returns the exit code.
//
// It must have a process of its own: versitygw's POSIX backend changes the
// working directory and keeps state per process.
func RunChild(args []string) int {
	if err := runChild(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "s3:", err)
		return 1
	}
	return 0
}

func runChild(stdin io.Reader) error {
	in := bufio.NewReader(stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read orders: %w (this command is started by the control plane)", err)
	}
	var o orders
	if err := json.Unmarshal(line, &o); err != nil {
		return fmt.Errorf("read orders: %w", err)
	}
	server, err := newServer(o)
	if err != nil {
		return err
	}
	orphaned := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, in)
		close(orphaned)
	}()
	failed := make(chan error, 1)
	// Keep-alive stays off: with it, zero-byte PUTs from minio-go put requests
	// and answers of a connection out of step.
	go func() { failed <- server.ServeMultiPort([]string{o.Address}) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", o.Address, err)
	case <-orphaned:
		return nil
	}
}

func newServer(o orders) (*s3api.S3ApiServer, error) {
	var metadata meta.MetadataStorer = meta.XattrMeta{}
	if o.Sidecar != "" {
		sidecar, err := meta.NewSideCar(o.Sidecar)
		if err != nil {
			return nil, fmt.Errorf("metadata folder: %w", err)
		}
		metadata = sidecar
	}
	backend, err := posix.New(o.Data, metadata, posix.PosixOpts{NewDirPerm: 0o700, NewFilePerm: 0o600, SideCarDir: o.Sidecar, ValidateBucketNames: true, CopyObjectThreshold: copyLimit,
		// Lock files are for several gateways on one folder; this is the only one.
		ForceNoObjLockFile: true})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", o.Data, err)
	}
	root := vgwauth.Account{Access: o.AccessKey, Secret: o.SecretKey, Role: vgwauth.RoleAdmin}
	server, err := s3api.New(backend, middlewares.RootUserConfig{Access: o.AccessKey, Secret: o.SecretKey}, region,
		vgwauth.NewIAMServiceSingle(root), nil, nil, nil, nil,
		s3api.WithQuiet(), s3api.WithMpMaxParts(10_000), s3api.WithConcurrencyLimiter(childConnections, childRequests))
	if err != nil {
		return nil, fmt.Errorf("make server: %w", err)
	}
	return server, nil
}

// xattrsWork says whether files in a folder can carry extended attributes,
// where the server keeps objects' metadata. Writing one is the only proof.
func xattrsWork(dir string) bool {
	f, err := os.CreateTemp(dir, ".xattr-*")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	defer f.Close()
	bucket, object := filepath.Split(f.Name())
	return meta.XattrMeta{}.StoreAttribute(f, bucket, object, "probe", []byte("1")) == nil
}
