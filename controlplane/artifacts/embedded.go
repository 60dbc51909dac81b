package artifacts

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// EmbeddedConfig says where the embedded object store keeps its data and how
// its process is started.
type EmbeddedConfig struct {
	Dir string // made if missing; holds keys, port and buckets
	// Command starts the child: a program and arguments that end in RunChild.
	Command []string
	Log     *slog.Logger
	// Ready bounds the wait for the first answer; 0 means 20 s.
	Ready time.Duration
	// Sidecar keeps objects' metadata in files of their own even where the file
	// system has extended attributes. It counts when Dir is new.
	Sidecar bool
}

// Embedded is the object store in a child process, watched and restarted.
type Embedded struct {
	config Config
	orders orders
	cmd    []string
	log    *slog.Logger

	stop context.CancelFunc
	done chan struct{}

	mu  sync.Mutex
	pid int
}

// identity is what makes presigned URLs outlive a restart.
type identity struct {
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
	Port      int    `json:"port"`
	// Sidecar: metadata lies in files of its own, since the file system that the
	// store was made on has no extended attributes.
	Sidecar bool `json:"sidecar,omitempty"`
}

// StartEmbedded starts the child and returns when it answers.
func StartEmbedded(ctx context.Context, c EmbeddedConfig) (*Embedded, error) {
	if len(c.Command) == 0 {
		return nil, errors.New("artifacts: no command to start the embedded object store with")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Ready == 0 {
		c.Ready = 20 * time.Second
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("artifacts: %s: %w", c.Dir, err)
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("artifacts: make %s: %w", data, err)
	}
	id, err := loadIdentity(filepath.Join(dir, "identity.json"), func() bool { return c.Sidecar || !xattrsWork(data) })
	if err != nil {
		return nil, err
	}
	o := orders{Data: data, Address: fmt.Sprintf("127.0.0.1:%d", id.Port), AccessKey: id.AccessKey, SecretKey: id.SecretKey}
	if id.Sidecar {
		o.Sidecar = filepath.Join(dir, "meta")
		if err := os.MkdirAll(o.Sidecar, 0o700); err != nil {
			return nil, fmt.Errorf("artifacts: make %s: %w", o.Sidecar, err)
		}
	}
	life, stop := context.WithCancel(context.Background())
	e := &Embedded{
		config: Config{Endpoint: o.Address, AccessKey: id.AccessKey, SecretKey: id.SecretKey},
		orders: o, cmd: c.Command, log: c.Log, stop: stop, done: make(chan struct{}),
	}
	go e.supervise(life)
	ctx, cancel := context.WithTimeout(ctx, c.Ready)
	defer cancel()
	if err := e.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Config says how to reach the embedded store.
func (e *Embedded) Config() Config { return e.config }

// PID returns the child's process id, 0 while there is none.
func (e *Embedded) PID() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pid
}

// Close ends the child and waits for it.
func (e *Embedded) Close() error {
	e.stop()
	<-e.done
	return nil
}

// awaitReady asks until the store answers a real, signed request.
func (e *Embedded) awaitReady(ctx context.Context) error {
	for {
		s, err := Open(ctx, e.config)
		if err == nil {
			s.Close()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("artifacts: the embedded object store does not answer on %s: %w", e.config.Endpoint, err)
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// loadIdentity reads keys and port, or makes them. A port that is taken is
// replaced: URLs signed for the old one are then void, which agents survive by
// asking again.
func loadIdentity(file string, sidecar func() bool) (identity, error) {
	var id identity
	old, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		id = identity{AccessKey: "TM" + rand.Text()[:18], SecretKey: rand.Text() + rand.Text(), Sidecar: sidecar()}
	case err != nil:
		return id, fmt.Errorf("artifacts: read the store's keys: %w", err)
	default:
		if err := json.Unmarshal(old, &id); err != nil || id.AccessKey == "" {
			return id, fmt.Errorf("artifacts: %s is damaged (%v): remove it to make new keys; the data stays", file, err)
		}
	}
	if id.Port, err = usablePort(id.Port); err != nil {
		return id, err
	}
	next, err := json.Marshal(id)
	if err != nil {
		return id, fmt.Errorf("artifacts: encode the store's keys: %w", err)
	}
	if string(next) == string(old) {
		return id, nil
	}
	return id, writeWhole(file, next)
}

// usablePort returns port if it can be listened on, else a free one. Another
// process may take it in between; the supervisor then keeps trying.
func usablePort(port int) (int, error) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil && port != 0 {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return 0, fmt.Errorf("artifacts: no port to listen on: %w", err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// writeWhole writes a private file so that a reader sees all of it or the old.
func writeWhole(file string, data []byte) error {
	tmp := file + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("artifacts: write %s: %w", file, err)
	}
	if err := os.Rename(tmp, file); err != nil {
		return fmt.Errorf("artifacts: write %s: %w", file, err)
	}
	return nil
}
