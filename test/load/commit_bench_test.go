package load

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/oklog/ulid/v2"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/trust"
)

// nothing is a state machine that keeps nothing.
type nothing struct{}

func (nothing) Apply(*raft.Log) any                  { return nil }
func (nothing) Snapshot() (raft.FSMSnapshot, error)  { return nothing{}, nil }
func (nothing) Restore(r io.ReadCloser) error        { return r.Close() }
func (nothing) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (nothing) Release()                             {}
func quiet() hclog.Logger                            { return hclog.NewNullLogger() }
func mustNot(b *testing.B, err error, format string, args ...any) {
	b.Helper()
	if err != nil {
		b.Fatalf(format+": %v", append(args, err)...)
	}
}

// raftAlone is hashicorp/raft with three voters in this process, on our log
// store with fsync, over loopback TCP, with a state machine that does nothing.
func raftAlone(b *testing.B) *raft.Raft {
	b.Helper()
	var servers []raft.Server
	var transports []*raft.NetworkTransport
	for i := range 3 {
		t, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, 3, 10*time.Second, quiet())
		mustNot(b, err, "transport")
		transports = append(transports, t)
		servers = append(servers, raft.Server{ID: raft.ServerID(fmt.Sprint(i)), Address: t.LocalAddr()})
	}
	var nodes []*raft.Raft
	for i, t := range transports {
		log, err := consensus.OpenLog(filepath.Join(b.TempDir(), "raft.db"))
		mustNot(b, err, "log")
		c := raft.DefaultConfig()
		c.LocalID, c.Logger, c.MaxAppendEntries = servers[i].ID, quiet(), 512
		snapshots := raft.NewInmemSnapshotStore()
		mustNot(b, raft.BootstrapCluster(c, log, log, snapshots, t, raft.Configuration{Servers: servers}), "bootstrap")
		r, err := raft.NewRaft(c, nothing{}, log, log, snapshots, t)
		mustNot(b, err, "raft")
		nodes = append(nodes, r)
		b.Cleanup(func() { _ = r.Shutdown().Error(); _ = t.Close(); _ = log.Close() })
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		for _, r := range nodes {
			if r.State() == raft.Leader {
				return r
			}
		}
		if time.Now().After(deadline) {
			b.Fatal("no leader")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// cluster is three servers, each a process of its own, that founded a cluster.
func cluster(b testing.TB) []*server {
	b.Helper()
	b.Setenv("LOAD_SECRET", trust.NewSecret().String())
	dir := b.TempDir()
	var addrs, rafts []string
	for range 3 {
		addrs, rafts = append(addrs, freeAddr(b)), append(rafts, freeAddr(b))
	}
	var servers []*server
	for i := range 3 {
		others := slices.Delete(slices.Clone(addrs), i, i+1)
		servers = append(servers, launch(b, filepath.Join(dir, fmt.Sprintf("s%d", i+1)), append([]string{addrs[i], rafts[i]}, others...)...))
	}
	for _, s := range servers {
		s.await(b)
	}
	return servers
}

// drive has so many clients call do, b.N times in all, and reports rate and
// latency.
func drive(b *testing.B, clients int, do func() error) (rate float64) {
	b.Helper()
	var next atomic.Int64
	took := make([]time.Duration, b.N)
	var group sync.WaitGroup
	b.ResetTimer()
	for range clients {
		group.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(b.N) {
					return
				}
				began := time.Now()
				if err := do(); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(began)
			}
		})
	}
	group.Wait()
	b.StopTimer()
	slices.Sort(took)
	rate = float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(rate, "commands/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1e3, "p99-ms")
	return rate
}

// BenchmarkCommit compares acknowledged writes by POST /v1/jobs on three servers
// with hashicorp/raft by itself, in the same run: 256 bytes a command there, a
// job of one stage here.
func BenchmarkCommit(b *testing.B) {
	alone := map[int]float64{}
	b.Run("raft-alone", func(b *testing.B) {
		r := raftAlone(b)
		command := make([]byte, 256)
		for _, clients := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
				alone[clients] = drive(b, clients, func() error { return r.Apply(command, 10*time.Second).Error() })
			})
		}
	})
	b.Run("rest", func(b *testing.B) {
		servers := cluster(b)
		leader := servers[0]
		for _, s := range servers {
			if s.leads(b) {
				leader = s
			}
		}
		user := leader.client(leader.token(b, "admin.token"), transport())
		ds := upload(b, user)
		for _, clients := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
				before := leader.used(b)
				rate := drive(b, clients, func() error {
					_, err := user.SubmitJob(context.Background(), api.JobSpec{ID: ulid.Make().String(), Dataset: ds.ID, Pipeline: stages(1)})
					return err
				})
				b.ReportMetric((leader.used(b).cpu-before.cpu).Seconds()/float64(b.N)*1e6, "leader-cpu-us/command")
				if alone[clients] > 0 {
					b.ReportMetric(rate/alone[clients], "of-raft-alone")
				}
			})
		}
	})
}

// leads asks a server's own metrics.
func (s *server) leads(b testing.TB) bool {
	b.Helper()
	return strings.Contains(s.get(b, "/metrics"), "\nraft_leader 1\n")
}
