package rest_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/artifacts/s3test"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/dispatch"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/rest"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

func TestMain(m *testing.M) {
	code := s3test.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// mesh is a whole control plane of one server on loopback: real Raft, real
// event log, real object store, real HTTP.
type mesh struct {
	url    string
	node   *consensus.Node
	store  *artifacts.Store
	s3     *artifacts.Embedded
	rest   *rest.Server
	events events.Log
	tokens map[api.Role]string
}

const modelName = "tiny"

func newMesh(t testing.TB, change ...func(*rest.Config)) *mesh {
	t.Helper()
	dir := t.TempDir()
	m := &mesh{tokens: map[api.Role]string{}}
	m.store, m.s3 = s3test.Shared(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.url = "http://" + listener.Addr().String()
	m.node, err = consensus.Open(consensus.Config{
		ID: "s1", Dir: filepath.Join(dir, "raft"), Bind: "127.0.0.1:0", HTTPAddress: m.url, Bootstrap: true, MinFreeBytes: 1, HeartbeatTimeout: 50 * time.Millisecond,
		Fatal: func(err error) { t.Errorf("consensus: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.node.Close() })
	disk, err := events.OpenDisk(events.DiskConfig{Dir: filepath.Join(dir, "events"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Close() })
	m.events = disk
	d := dispatch.New(dispatch.Config{Raft: m.node, Store: m.node.Store(), Events: events.Projection{Log: disk}, Publisher: m.store, BackoffBase: 10 * time.Millisecond})
	life, stop := context.WithCancel(context.Background())
	led := make(chan struct{})
	go func() {
		defer close(led)
		m.node.WhileLeading(life, func(ctx context.Context) { _ = d.Run(ctx) })
	}()
	t.Cleanup(func() { stop(); <-led })
	config := rest.Config{
		Raft: m.node, Store: m.node.Store(), Snapshots: m.node, Dispatch: d, Events: disk, Objects: m.store,
		DefaultModel: modelName, Version: api.Version{Version: "test", Protocol: api.ProtocolVersion},
	}
	for _, c := range change {
		c(&config)
	}
	if m.rest, err = rest.New(config); err != nil {
		t.Fatal(err)
	}
	server := m.rest.HTTPServer()
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		m.rest.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	m.await(t)
	m.seed(t)
	return m
}

// await returns once the server is ready.
func (m *mesh) await(t testing.TB) {
	t.Helper()
	c := m.client("")
	deadline := time.Now().Add(15 * time.Second)
	for {
		err := c.Ready(context.Background())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// seed makes a token of each role and a base model.
func (m *mesh) seed(t testing.TB) {
	t.Helper()
	ctx := context.Background()
	if _, err := m.node.Apply(ctx, state.SetMinVersion{Version: api.ProtocolVersion}); err != nil {
		t.Fatal(err)
	}
	for _, role := range []api.Role{api.RoleAdmin, api.RoleUser, api.RoleViewer, api.RoleMetrics, api.RoleNode} {
		secret, token := auth.NewToken(string(role), role, time.Now())
		if role == api.RoleNode { // the credential of the node that these tests play
			token.NodeID = nodeName
		}
		if _, err := m.node.Apply(ctx, state.CreateJoinToken{Token: token}); err != nil {
			t.Fatal(err)
		}
		m.tokens[role] = secret
	}
	a, err := m.store.PutBytes(ctx, api.BucketModels, artifacts.ModelKey(modelName, strings.Repeat("0", 64), "config.json"), []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	a.Name = "config.json"
	model := api.Model{Name: modelName, Architecture: "LlamaForCausalLM", Files: []api.Artifact{a}, SHA256: "00", CreatedAt: time.Now().UTC()}
	if _, err := m.node.Apply(ctx, state.CreateModel{Model: model}); err != nil {
		t.Fatal(err)
	}
}

// client returns a client with a role's token; an empty role has none.
func (m *mesh) client(role api.Role) *client.Client {
	return m.clientWith(role, &http.Transport{DisableKeepAlives: true})
}

func (m *mesh) clientWith(role api.Role, t http.RoundTripper) *client.Client {
	return client.New(client.Config{Servers: []string{m.url}, Token: m.tokens[role], HTTP: &http.Client{Transport: t}})
}

// raw is a client of the object store itself.
func (m *mesh) raw(t testing.TB) *minio.Client {
	t.Helper()
	c := m.s3.Config()
	raw, err := minio.New(c.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""), Region: "us-east-1", Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// unfinished lists what uploads in progress hold in the dataset bucket.
func (m *mesh) unfinished(t testing.TB) []string {
	t.Helper()
	raw := m.raw(t)
	var found []string
	for o := range raw.ListObjects(context.Background(), api.BucketDatasets, minio.ListObjectsOptions{Prefix: "incoming/", Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		found = append(found, o.Key)
	}
	for u := range raw.ListIncompleteUploads(context.Background(), api.BucketDatasets, "", true) {
		if u.Err != nil {
			t.Fatal(u.Err)
		}
		found = append(found, "unfinished "+u.Key)
	}
	return found
}
