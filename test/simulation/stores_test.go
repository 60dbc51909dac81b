package simulation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

// stores are the object store and the event store, on a host of their own. They
// lose nothing; what reaches them, and whose answers arrive, is the network's.
type stores struct {
	process *process
	server  *http.Server
	serving sync.WaitGroup
	events  *events.Disk

	mu      sync.Mutex
	objects map[string][]byte
}

const storeHost, storePort = "store", "9000"

func newStores(n *network, dir string) (*stores, error) {
	// The real log on disk, shared by all servers as Redis is.
	log, err := events.OpenDisk(events.DiskConfig{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	s := &stores{process: n.host(storeHost, "10.0.9.1").boot(), events: log, objects: map[string][]byte{}}
	s.server = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second}
	l := s.process.listen(storePort)
	s.serving.Go(func() { _ = s.server.Serve(l) })
	return s, nil
}

func (s *stores) close() error {
	err := errors.Join(s.server.Close(), s.events.Close())
	s.serving.Wait()
	return err
}

func (s *stores) put(key string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = data
}

func (s *stores) get(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.objects[key]
	return data, ok
}

// serve answers presigned links.
func (s *stores) serve(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.URL.Path, "/")
	switch r.Method {
	case http.MethodPut:
		body, err := io.ReadAll(r.Body)
		if err != nil || int64(len(body)) != r.ContentLength {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.put(key, body)
	case http.MethodGet:
		data, ok := s.get(key)
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

// objectsOf is the object store as one server reaches it.
type objectsOf struct {
	process *process
	stores  *stores
}

// storeTime is how long a server waits for a store.
const storeTime = 5 * time.Second

// visit does something at the store, there and back. A visit whose answer is lost
// has been one all the same.
func visit(ctx context.Context, p *process, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if err := p.hop(ctx, storeHost, false); err != nil {
		return fmt.Errorf("the store does not answer: %w", err)
	}
	err := do()
	if hop := p.hop(ctx, storeHost, true); hop != nil {
		return fmt.Errorf("the store does not answer: %w", hop)
	}
	return err
}

// PutDataset implements rest.Objects.
func (o objectsOf) PutDataset(ctx context.Context, name string, r io.Reader, _ int64) (api.Dataset, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return api.Dataset{}, err
	}
	sum := sha256.Sum256(data)
	d := api.Dataset{ID: "ds_" + hex.EncodeToString(sum[:8]), Name: name, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	d.Key = "raw/" + d.ID
	return d, visit(ctx, o.process, func() error { o.stores.put("datasets/"+d.Key, data); return nil })
}

// Get implements rest.Objects.
func (o objectsOf) Get(ctx context.Context, bucket, key string) (out io.ReadCloser, err error) {
	err = visit(ctx, o.process, func() error {
		data, ok := o.stores.get(bucket + "/" + key)
		if !ok {
			return fmt.Errorf("no object %s/%s", bucket, key)
		}
		out = io.NopCloser(bytes.NewReader(data))
		return nil
	})
	return out, err
}

// PresignGet implements rest.Objects.
func (o objectsOf) PresignGet(_ context.Context, bucket, key string) (string, error) {
	return "http://" + o.stores.process.host.ip + ":" + storePort + "/" + bucket + "/" + key, nil
}

// PresignPut implements rest.Objects.
func (o objectsOf) PresignPut(ctx context.Context, bucket, key string) (string, error) {
	return o.PresignGet(ctx, bucket, key)
}

// Verify implements rest.Objects.
func (o objectsOf) Verify(ctx context.Context, list []api.Artifact) error {
	return visit(ctx, o.process, func() error {
		for _, a := range list {
			data, ok := o.stores.get(a.Bucket + "/" + a.Key)
			if !ok {
				return &artifacts.MissingError{Artifact: a, Got: -1}
			}
			if int64(len(data)) != a.Size {
				return &artifacts.MissingError{Artifact: a, Got: int64(len(data))}
			}
		}
		return nil
	})
}

// Ping implements rest.Objects.
func (o objectsOf) Ping(ctx context.Context) error {
	return visit(ctx, o.process, func() error { return nil })
}

// Publish implements dispatch.Publisher.
func (o objectsOf) Publish(ctx context.Context, _ api.Stage) error { return o.Ping(ctx) }

// eventsOf is the event store as one server reaches it.
type eventsOf struct {
	process *process
	log     *events.Disk
	// drops is a planted bug: one in so many batches is acknowledged and thrown
	// away.
	drops func() bool
}

var _ events.Log = eventsOf{}

func (e eventsOf) visit(ctx context.Context, do func() error) error {
	var inside error
	if err := visit(ctx, e.process, func() error { inside = do(); return nil }); err != nil {
		return fmt.Errorf("%w: %w", events.ErrAway, err)
	}
	return inside
}

// Append implements events.Log.
func (e eventsOf) Append(ctx context.Context, job, source string, first uint64, list []api.Event) (next uint64, err error) {
	err = e.visit(ctx, func() (err error) {
		if e.drops != nil && source != events.SourceState && len(list) > 0 && e.drops() {
			list = list[1:] // and so its lines move up
		}
		next, err = e.log.Append(context.WithoutCancel(ctx), job, source, first, list)
		return err
	})
	if errors.Is(err, events.ErrAway) {
		next = 0
	}
	return next, err
}

// Next implements events.Log.
func (e eventsOf) Next(ctx context.Context, job, source string) (next uint64, err error) {
	err = e.visit(ctx, func() (err error) { next, err = e.log.Next(ctx, job, source); return err })
	return next, err
}

// Read implements events.Log.
func (e eventsOf) Read(ctx context.Context, job string, after uint64, most int) (out []api.Event, err error) {
	err = e.visit(ctx, func() (err error) { out, err = e.log.Read(ctx, job, after, most); return err })
	return out, err
}

// LastOf implements events.Log.
func (e eventsOf) LastOf(ctx context.Context, job, source string, n int) (out []api.Event, err error) {
	err = e.visit(ctx, func() (err error) { out, err = e.log.LastOf(ctx, job, source, n); return err })
	return out, err
}

// Wait implements events.Log: as with Redis, the wait is at the server, which is
// told over a connection that a dead store breaks.
func (e eventsOf) Wait(ctx context.Context, job string, after uint64) error {
	if err := e.log.Wait(ctx, job, after); err != nil {
		return err
	}
	return e.process.hop(ctx, storeHost, true)
}

// Position implements events.Log.
func (e eventsOf) Position(ctx context.Context, job string) (at events.Position, err error) {
	err = e.visit(ctx, func() (err error) { at, err = e.log.Position(ctx, job); return err })
	return at, err
}

// Life implements events.Log.
func (e eventsOf) Life(ctx context.Context, job string) (life string, err error) {
	err = e.visit(ctx, func() (err error) { life, err = e.log.Life(ctx, job); return err })
	return life, err
}

// Close implements events.Log; the store is not the server's.
func (eventsOf) Close() error { return nil }
