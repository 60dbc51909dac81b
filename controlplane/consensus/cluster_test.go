package consensus_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// childDir makes the test program a server that is there to be killed.
const childDir = "TUNEMESH_TEST_CONSENSUS_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		writeUntilKilled(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// server opens a server that lives as long as the test.
func server(t *testing.T, id, dir string, change ...func(c *consensus.Config)) *consensus.Node {
	t.Helper()
	c := consensus.Config{ID: id, Dir: dir, Bind: "127.0.0.1:0", HTTPAddress: "http://" + id,
		HeartbeatTimeout: 100 * time.Millisecond, ApplyTimeout: 5 * time.Second,
		Fatal: func(err error) { t.Errorf("server %s: %v", id, err) }}
	for _, f := range change {
		f(&c)
	}
	n, err := consensus.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close %s: %v", id, err)
		}
	})
	return n
}

func founding(c *consensus.Config) { c.Bootstrap = true }

// leads waits until a server is told that it leads.
func leads(t *testing.T, n *consensus.Node) {
	t.Helper()
	select {
	case now := <-n.LeadershipChanges():
		if !now {
			t.Fatal("told to stop before it was told to lead")
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s does not lead: %+v", n.ID(), n.Stats())
	}
}

func dataset(i int) state.CreateDataset {
	return state.CreateDataset{Dataset: api.Dataset{ID: fmt.Sprintf("ds_%06d", i), SHA256: "x"}}
}

func apply(t *testing.T, n *consensus.Node, c state.Command) state.Result {
	t.Helper()
	r, err := n.Apply(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestASingleServerComesBackWithAllItAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var index uint64
	var hash string
	for round := range 3 {
		n := server(t, "s1", dir, founding)
		leads(t, n)
		if round > 0 && n.Store().Hash() != hash && n.Store().Index() < index {
			t.Fatalf("round %d: came back at %d, had %d", round, n.Store().Index(), index)
		}
		if len(n.Store().Datasets()) != 10*round {
			t.Fatalf("round %d: %d datasets", round, len(n.Store().Datasets()))
		}
		for i := range 10 {
			index = apply(t, n, dataset(10*round+i)).Index
		}
		hash = n.Store().Hash()
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// writeUntilKilled says on stdout which writes were acknowledged.
func writeUntilKilled(dir string) {
	n, err := consensus.Open(consensus.Config{ID: "s1", Dir: dir, Bind: "127.0.0.1:0", Bootstrap: true, HeartbeatTimeout: 100 * time.Millisecond})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	<-n.LeadershipChanges()
	next := len(n.Store().Datasets())
	var mu sync.Mutex
	for range 8 {
		go func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if _, err := n.Apply(context.Background(), dataset(i)); err != nil {
					fmt.Println(err)
					os.Exit(1)
				}
				fmt.Println("acked", i)
			}
		}()
	}
	select {}
}

func TestNothingAcknowledgedIsLostWhenTheProcessIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := map[int]bool{}
	total := 0
	for range 3 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 200 && lines.Scan(); n++ {
			i, err := strconv.Atoi(strings.TrimPrefix(lines.Text(), "acked "))
			if err != nil {
				t.Fatalf("the child said %q", lines.Text())
			}
			acked[i] = true
			total++
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait()
	}
	// A round may begin with an id that the one before wrote without saying so.
	if total < 600 || len(acked) < 500 {
		t.Fatalf("only %d writes, %d of them new, were acknowledged", total, len(acked))
	}
	n := server(t, "s1", dir, founding)
	leads(t, n)
	for i := range acked {
		if _, err := n.Store().Dataset(dataset(i).Dataset.ID); err != nil {
			t.Errorf("acknowledged and lost: %v", err)
		}
	}
}

func TestAServerComesBackFromASnapshotAndTheLogAfterIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	often := func(c *consensus.Config) {
		c.SnapshotThreshold, c.TrailingLogs, c.SnapshotInterval = 20, 5, 20*time.Millisecond
	}
	n := server(t, "s1", dir, founding, often)
	leads(t, n)
	for i := range 100 {
		apply(t, n, dataset(i))
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		entries, _ := os.ReadDir(dir + "/snapshots")
		if len(entries) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no snapshot was made")
		}
		time.Sleep(10 * time.Millisecond)
	}
	apply(t, n, dataset(100))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = server(t, "s1", dir, founding, often)
	leads(t, n)
	if got := len(n.Store().Datasets()); got != 101 {
		t.Fatalf("%d datasets, want 101", got)
	}
	if err := n.ConsistentRead(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestOneDirectoryIsForOneServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server(t, "s1", dir, founding)
	_, err := consensus.Open(consensus.Config{ID: "s1", Dir: dir, Bind: "127.0.0.1:0"})
	if err == nil || !strings.Contains(err.Error(), "another server runs on this directory") {
		t.Fatal(err)
	}
}

func TestWhatTheDomainSaysComesBackAsItsError(t *testing.T) {
	t.Parallel()
	n := server(t, "s1", t.TempDir(), founding)
	leads(t, n)
	if _, err := n.Apply(context.Background(), state.RevokeToken{ID: "t9"}); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	big := state.CreateDataset{Dataset: api.Dataset{ID: "d", Name: strings.Repeat("x", state.MaxEntry)}}
	if _, err := n.Apply(context.Background(), big); !errors.Is(err, state.ErrInvalid) {
		t.Error(err)
	}
}

func TestAFullDiskRefusesWritesNotReads(t *testing.T) {
	t.Parallel()
	n := server(t, "s1", t.TempDir(), founding, func(c *consensus.Config) {
		c.MinFreePercent, c.MinFreeBytes = 101, 1<<62
	})
	leads(t, n)
	if _, err := n.Apply(context.Background(), dataset(1)); !errors.Is(err, consensus.ErrDiskFull) {
		t.Error(err)
	}
	if err := n.ConsistentRead(context.Background()); err != nil {
		t.Error(err)
	}
}

// three is a mesh of three servers; it returns the leader first.
func three(t *testing.T) (leader *consensus.Node, others []*consensus.Node) {
	t.Helper()
	// On a busy machine under the race detector a server can be held up for
	// long; these tests are not about that.
	patient := func(c *consensus.Config) { c.HeartbeatTimeout = 1500 * time.Millisecond }
	t.Parallel()
	leader = server(t, "s1", t.TempDir(), founding, patient)
	leads(t, leader)
	for _, id := range []string{"s2", "s3"} {
		n := server(t, id, t.TempDir(), patient)
		err := leader.AddVoter(context.Background(), state.Server{ID: id, RaftAddress: n.RaftAddress(), HTTPAddress: "http://" + id})
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, n)
	}
	return leader, others
}

func TestThreeServersOutliveTheirLeader(t *testing.T) {
	leader, others := three(t)
	var last uint64
	for i := range 50 {
		last = apply(t, leader, dataset(i)).Index
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, n := range others {
		// Read your own writes on any server.
		if err := n.WaitIndex(ctx, last); err != nil {
			t.Fatal(err)
		}
		if n.Store().Hash() != leader.Store().Hash() {
			t.Fatalf("%s has another state at the same index", n.ID())
		}
		if url, ok := n.LeaderHTTP(); !ok || url != "http://s1" {
			t.Fatalf("%s says the leader is %q", n.ID(), url)
		}
		// A follower does not answer as if it led.
		var notLeader *consensus.NotLeaderError
		if err := n.ConsistentRead(ctx); !errors.As(err, &notLeader) || notLeader.LeaderHTTP != "http://s1" {
			t.Fatalf("read on a follower: %v", err)
		}
		if _, err := n.Apply(ctx, dataset(1)); !errors.Is(err, consensus.ErrNotLeader) {
			t.Fatalf("write on a follower: %v", err)
		}
	}
	if s := leader.Stats(); s.Voters != 3 || !s.Ready || s.LeaderID != "s1" {
		t.Fatalf("%+v", s)
	}

	if err := leader.Close(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	var next, follower *consensus.Node
	select {
	case <-others[0].LeadershipChanges():
		next, follower = others[0], others[1]
	case <-others[1].LeadershipChanges():
		next, follower = others[1], others[0]
	case <-ctx.Done():
		t.Fatal("no new leader")
	}
	if err := next.ConsistentRead(ctx); err != nil {
		t.Fatal(err)
	}
	if got := len(next.Store().Datasets()); got != 50 {
		t.Fatalf("%d of 50 acknowledged datasets", got)
	}
	last = apply(t, next, dataset(50)).Index
	t.Logf("next accepted write %s after the leader went", time.Since(killed).Round(time.Millisecond))
	if err := follower.WaitIndex(ctx, last); err != nil {
		t.Fatal(err)
	}
	if url, _ := follower.LeaderHTTP(); url != "http://"+next.ID() {
		t.Fatalf("the follower says the leader is %q, want %s", url, next.ID())
	}

	// With one of three left nothing is acknowledged, and the leader finds out.
	if err := follower.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := next.Apply(ctx, dataset(51))
	if !errors.Is(err, consensus.ErrUnknownOutcome) && !errors.Is(err, consensus.ErrNotLeader) {
		t.Fatalf("write without a quorum: %v", err)
	}
	select {
	case now := <-next.LeadershipChanges():
		if now {
			t.Fatal("leads twice")
		}
	case <-ctx.Done():
		t.Fatal("a leader without a quorum still leads")
	}
	if err := next.ConsistentRead(ctx); !errors.Is(err, consensus.ErrNotLeader) {
		t.Fatalf("read without a quorum: %v", err)
	}
}

func TestAServerCanLeave(t *testing.T) {
	leader, others := three(t)
	if err := leader.RemoveServer(context.Background(), "s3"); err != nil {
		t.Fatal(err)
	}
	if s := leader.Stats(); s.Voters != 2 {
		t.Fatalf("%+v", s)
	}
	if list := leader.Store().Servers(); len(list) != 2 {
		t.Fatalf("servers %+v", list)
	}
	if err := others[0].RemoveServer(context.Background(), "s1"); !errors.Is(err, consensus.ErrNotLeader) {
		t.Fatal(err)
	}
}

func TestWorkIsDoneOnlyWhileLeading(t *testing.T) {
	leader, others := three(t)
	started, ended := make(chan string, 10), make(chan string, 10)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	for _, n := range others {
		done.Go(func() {
			n.WhileLeading(ctx, func(term context.Context) {
				started <- n.ID()
				<-term.Done()
				ended <- n.ID()
			})
		})
	}
	if err := leader.Close(); err != nil {
		t.Fatal(err)
	}
	var first string
	select {
	case first = <-started:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody leads")
	}
	for _, n := range others {
		if n.ID() != first { // without it there is no quorum
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	select {
	case who := <-ended:
		if who != first {
			t.Fatalf("%s stopped, %s led", who, first)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("a leader without a quorum goes on")
	}
	cancel()
	done.Wait()
	if len(started) != len(ended) {
		t.Fatalf("%d started and %d ended", len(started), len(ended))
	}
}

func TestAnAddressThatNobodyCanReachIsRefused(t *testing.T) {
	_, err := consensus.Open(consensus.Config{ID: "s1", Dir: t.TempDir(), Bind: "0.0.0.0:0"})
	if err == nil || !strings.Contains(err.Error(), "advertise") {
		t.Fatal(err)
	}
}

// Reads that begin after a write was acknowledged see it, whoever writes.
func TestReadsSeeWhatWasAcknowledgedBefore(t *testing.T) {
	n := server(t, "s1", t.TempDir(), founding)
	leads(t, n)
	var clients sync.WaitGroup
	for c := range 8 {
		clients.Go(func() {
			for i := range 25 {
				d := dataset(c*1000 + i)
				if _, err := n.Apply(context.Background(), d); err != nil {
					t.Error(err)
					return
				}
				if err := n.ConsistentRead(context.Background()); err != nil {
					t.Error(err)
					return
				}
				if _, err := n.Store().Dataset(d.Dataset.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
}

// BenchmarkApply measures acknowledged commands on one voter, fsync and all.
func BenchmarkApply(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			n, err := consensus.Open(consensus.Config{ID: "s1", Dir: b.TempDir(), Bind: "127.0.0.1:0", Bootstrap: true, HeartbeatTimeout: 100 * time.Millisecond})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = n.Close() }()
			<-n.LeadershipChanges()
			work := make(chan int)
			var group sync.WaitGroup
			for range clients {
				group.Go(func() {
					for i := range work {
						if _, err := n.Apply(context.Background(), dataset(i)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.ResetTimer()
			for i := range b.N {
				work <- i
			}
			close(work)
			group.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
		})
	}
}
