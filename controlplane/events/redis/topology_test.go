package redis_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/events/eventstest"
	"github.com/tunemesh/tunemesh/controlplane/events/redis"
)

// newCluster starts three servers that share the slots.
func newCluster(t testing.TB) []*server {
	t.Helper()
	var nodes []*server
	ranges := []string{"0 5460", "5461 10922", "10923 16383"}
	for i := range ranges {
		bus := freePort(t)
		s := newServer(t, "--appendfsync", "no", "--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(bus), "--cluster-node-timeout", "2000")
		nodes = append(nodes, s)
		commands := []string{"CLUSTER ADDSLOTSRANGE " + ranges[i], fmt.Sprintf("CLUSTER SET-CONFIG-EPOCH %d", i+1)}
		if i > 0 {
			commands = append(commands, fmt.Sprintf("CLUSTER MEET 127.0.0.1 %d %s", nodes[0].port, nodes[0].args[5]))
		}
		for _, c := range commands {
			if answer := s.tell(c); !strings.HasPrefix(answer, "+OK") {
				t.Fatalf("%s: %s", c, answer)
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, s := range nodes {
		c := s.client()
		for {
			info, err := c.ClusterInfo(ctx).Result()
			if err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3") {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("the cluster does not form: %v %s", err, info)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nodes
}

func TestAClusterIsALog(t *testing.T) {
	nodes := newCluster(t)
	eventstest.Run(t, func(t testing.TB) eventstest.Open {
		c := redis.Config{URL: "redis+cluster://" + nodes[1].addr(), Prefix: newPrefix()}
		return func(t testing.TB) events.Log { return open(t, c) }
	})
	t.Run("jobs lie on all nodes and can be followed", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		prefix := newPrefix()
		// A seed that is down does not matter beside one that is up.
		l := open(t, redis.Config{URL: "redis+cluster://127.0.0.1:1?addr=" + nodes[2].addr(), Prefix: prefix})
		var wg sync.WaitGroup
		for i := range 30 {
			job := fmt.Sprintf("J%d", i)
			wg.Go(func() {
				got, err := eventstest.Follow(l, job, 0).Next(ctx, 10)
				if err != nil || len(got) != 1 || got[0].Message != "a1/1" {
					t.Errorf("%s: %v, %v", job, got, err)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		for i := range 30 {
			if next, err := l.Append(ctx, fmt.Sprintf("J%d", i), "a1", 1, eventstest.Batch("a1", 1, 1)); err != nil || next != 2 {
				t.Fatal(next, err)
			}
		}
		wg.Wait()
		for i, s := range nodes {
			if keys, err := s.client().Keys(ctx, prefix+":*").Result(); err != nil || len(keys) == 0 {
				t.Errorf("node %d has no keys: %v", i, err)
			}
		}
	})
}

// newSentinel watches a server under the name mesh.
func newSentinel(t testing.TB, master *server) (addr string) {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	conf := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("bind 127.0.0.1\nport %d\ndir %s\nsentinel monitor mesh 127.0.0.1 %d 1\nsentinel down-after-milliseconds mesh 500\nsentinel failover-timeout mesh 3000\n", port, dir, master.port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("redis-server", conf, "--sentinel")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// The server behind Sentinel dies in the middle of appends and its replica takes
// over, which may be older than what was acknowledged: the senders send again
// what it lacks, and the stream is exact.
func TestASentinelFailover(t *testing.T) {
	master := newServer(t, "--appendfsync", "no")
	replica := newServer(t, "--appendfsync", "no", "--replicaof", "127.0.0.1 "+fmt.Sprint(master.port))
	sentinel := newSentinel(t, master)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	until(t, ctx, "the replica", func() bool {
		info, _ := replica.client().Info(ctx, "replication").Result()
		return strings.Contains(info, "master_link_status:up")
	})
	until(t, ctx, "Sentinel knowing the replica", func() bool {
		s := server{t: t, port: 0}
		fmt.Sscanf(sentinel, "127.0.0.1:%d", &s.port)
		return strings.HasPrefix(s.tell("SENTINEL REPLICAS mesh"), "*1")
	})
	l := open(t, redis.Config{URL: "redis+sentinel://" + sentinel + "/mesh"})
	var senders []*sender
	var sending sync.WaitGroup
	for i := range 4 {
		w := &sender{source: events.Source(uint64(i + 1)), total: 2500, batch: 2}
		senders = append(senders, w)
		sending.Go(func() { w.run(t, ctx, l) })
	}
	var words []string
	reader := make(chan struct{})
	go func() {
		defer close(reader)
		words, _ = follow(t, ctx, l, 10000)
	}()
	until(t, ctx, "progress", func() bool { return acked(senders) > 2000 })
	master.kill()
	if acked(senders) >= 10000 {
		t.Fatal("too easy: all was sent before the kill")
	}
	sending.Wait()
	var again sync.WaitGroup
	for _, w := range senders {
		again.Go(func() { w.run(t, ctx, l) })
	}
	again.Wait()
	checkExact(t, readAll(t, l, "J"), senders)
	<-reader // its numbers had no hole; see follow
	if len(words) != 10000 {
		t.Errorf("the reader got %d events", len(words))
	}
	if info := replica.tell("ROLE"); !strings.Contains(info, "master") {
		t.Errorf("the replica did not take over: %s", info)
	}
}
