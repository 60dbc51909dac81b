package consensus

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// A follower refuses an entry while more are being sent: Raft's reader of answers
// leaves, and the sender must not wait for it for ever (raft#612).
func TestAPipelineEndsWithItsReader(t *testing.T) {
	open := func() *raft.NetworkTransport {
		s, err := listen(Config{Bind: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		n := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: s, MaxPool: 1, Timeout: time.Minute, Logger: hclog.NewNullLogger()})
		t.Cleanup(func() { _ = n.Close() })
		return n
	}
	follower, leader := open(), networkTransport{open()}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case rpc := <-follower.Consumer():
				rpc.Respond(&raft.AppendEntriesResponse{Success: false}, nil)
			case <-done:
				return
			}
		}
	}()
	p, err := leader.AppendEntriesPipeline("f", follower.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 1)
	go func() {
		for {
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: 1}, new(raft.AppendEntriesResponse)); err != nil {
				refused <- err
				return
			}
		}
	}()
	if f := <-p.Consumer(); f.Response().Success {
		t.Fatal("the follower took an entry")
	}
	// Here Raft's reader leaves.
	select {
	case <-refused:
	case <-time.After(20 * time.Second):
		t.Error("the sender waits for a reader that has left")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
