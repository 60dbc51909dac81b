package load

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/nodeagent"
)

// runAgent is one real agent until SIGTERM, with the credential of LOAD_TOKEN.
func runAgent(dir, url string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	s := &server{url: url}
	a, err := nodeagent.New(nodeagent.Config{Dir: dir, Name: "idle", Executable: exe, Logger: slog.New(slog.DiscardHandler)},
		s.client(os.Getenv("LOAD_TOKEN"), transport()))
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// idleAgent measures a real agent that has nothing to do.
func idleAgent(t *testing.T, s *server, span time.Duration) (rss int64, cores float64) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "agent")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	id, err := nodeagent.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := s.client(s.token(t, "node.token"), transport())
	challenge, err := c.Challenge(t.Context(), id.NodeID)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := c.Enrol(t.Context(), id.NodeID, api.EnrolRequest{Name: "idle", PublicKey: id.Public(), Challenge: challenge.Challenge,
		Signature: ed25519.Sign(id.Private, api.EnrolMessage(id.NodeID, challenge.Challenge))})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	agent := &server{cmd: exec.Command(self, "load-agent", dir, s.url)}
	agent.cmd.Env = append(os.Environ(), "LOAD_TOKEN="+reply.Credential)
	agent.cmd.Stderr = os.Stderr
	if err := agent.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer agent.stop()
	user := s.client(s.token(t, "admin.token"), transport())
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if n, err := user.Node(t.Context(), id.NodeID); err == nil && n.Status == api.NodeAlive {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the agent does not come alive")
		}
	}
	time.Sleep(3 * time.Second) // what it looks at when it starts
	before := agent.used(t)
	time.Sleep(span)
	after := agent.used(t)
	return after.rss, (after.cpu - before.cpu).Seconds() / span.Seconds()
}
