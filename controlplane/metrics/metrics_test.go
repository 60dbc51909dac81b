package metrics_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/metrics"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// mesh is a state with a node on which training of job A runs, and job B whose
// training waits.
type mesh struct {
	t     *testing.T
	store *state.Store
	index uint64
	raft  metrics.Raft
}

func (m *mesh) apply(c state.Command) state.Result {
	m.t.Helper()
	entry, err := state.Encode(c)
	if err != nil {
		m.t.Fatal(err)
	}
	m.index++
	r, err := m.store.Apply(m.index, entry)
	if err != nil || r.Err != nil {
		m.t.Fatal(err, r.Err)
	}
	return r
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	store, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, store: store, raft: metrics.Raft{Leader: true, HasLeader: true, Term: 3, LastIndex: 9, Commit: 8, Applied: 7, Voters: 3}}
	m.apply(state.UpsertNode{Node: api.Node{ID: "n1", Name: "one", Protocol: 1, Digest: "d",
		Capability: api.Capability{CPU: api.CPU{Cores: 8}, MemoryBytes: 1 << 40, Engines: []api.Engine{{Name: "native", Available: true}}}}, At: t0})
	m.apply(state.CreateDataset{Dataset: api.Dataset{ID: "ds_1", Name: "d", CreatedAt: t0}})
	for _, id := range []string{"01J00000000000000000000000", "01J00000000000000000000001"} {
		p := api.Pipeline{Nodes: []api.StageSpec{{Name: "train", Command: []string{"true"}}}}
		p = p.Normalize()
		m.apply(state.CreateJob{Spec: api.JobSpec{ID: id, Dataset: "ds_1"}, Pipeline: p, At: t0})
	}
	m.apply(state.PlaceAttempt{JobID: "01J00000000000000000000000", Stage: "train", NodeID: "n1", At: t0})
	return m
}

func (m *mesh) register(c metrics.Config) (*prometheus.Registry, *metrics.Metrics) {
	m.t.Helper()
	r := prometheus.NewPedanticRegistry()
	c.Store, c.Raft = m.store, func() metrics.Raft { return m.raft }
	c.FillNode = func(n *api.Node) { n.Status = api.NodeAlive }
	c.Clock = func() time.Time { return t0.Add(90 * time.Second) }
	got, err := metrics.New(r, c)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = got.Close() })
	return r, got
}

func want(t *testing.T, r prometheus.Gatherer, text string, names ...string) {
	t.Helper()
	if err := testutil.GatherAndCompare(r, strings.NewReader(text), names...); err != nil {
		t.Error(err)
	}
}

func TestTheLeaderTellsOfQueueNodesAndAttempts(t *testing.T) {
	m := newMesh(t)
	r, _ := m.register(metrics.Config{})
	want(t, r, `
# HELP attempts_unknown Attempts whose node is silent and whose grace has not run out.
# TYPE attempts_unknown gauge
attempts_unknown 0
# HELP nodes Nodes, by what the leader knows of them.
# TYPE nodes gauge
nodes{status="alive"} 1
nodes{status="disconnected"} 0
nodes{status="unseen"} 0
`, "nodes", "attempts_unknown")
	for name, value := range map[string]float64{"queue_depth": 1, "rq_queue_depth": 1, "queue_oldest_wait_seconds": 90, "attempts_running": 1} {
		if got := labelled(t, r, name, "queue", api.KindCustom); got != value {
			t.Errorf("%s{queue=custom} is %v, want %v", name, got, value)
		}
		if got := labelled(t, r, name, "queue", "training"); got != 0 {
			t.Errorf("%s{queue=training} is %v, want 0", name, got)
		}
	}
}

// A stage in backoff does not wait for a node.
func TestBackoffIsNoWaiting(t *testing.T) {
	m := newMesh(t)
	m.apply(state.ReportAttempts{Reports: []state.Report{{Fence: m.store.AttemptsOnNode("n1")[0].Fence, At: t0,
		RetryAt: t0.Add(time.Hour), Report: api.AttemptReport{State: api.AttemptFailed, Error: &api.StageError{Class: "transient", Code: "X", Retryable: true}}}}})
	m.apply(state.CancelJob{JobID: "01J00000000000000000000001", At: t0})
	r, _ := m.register(metrics.Config{})
	if depth, wait := labelled(t, r, "queue_depth", "queue", "custom"), labelled(t, r, "queue_oldest_wait_seconds", "queue", "custom"); depth != 1 || wait != 0 {
		t.Errorf("depth %v, oldest wait %v; want 1 and 0", depth, wait)
	}
}

func TestAFollowerTellsOfItselfAlone(t *testing.T) {
	m := newMesh(t)
	m.raft.Leader, m.raft.Contact = false, t0.Add(89*time.Second)
	r, _ := m.register(metrics.Config{Gossip: func() map[string]int { return map[string]int{"server": 3, "agent": 2} }})
	for _, name := range []string{"queue_depth", "nodes", "dead_letters"} {
		if n, err := testutil.GatherAndCount(r, name); n != 0 || err != nil {
			t.Errorf("a follower tells %d series of %s (%v)", n, name, err)
		}
	}
	for name, value := range map[string]float64{"raft_leader": 0, "raft_has_leader": 1, "raft_term": 3, "raft_commit_index": 8, "raft_applied_index": 7, "raft_last_contact_seconds": 1, "raft_voters": 3} {
		if got := labelled(t, r, name, "", ""); got != value {
			t.Errorf("%s is %v, want %v", name, got, value)
		}
	}
	if servers, agents := labelled(t, r, "gossip_members", "role", "server"), labelled(t, r, "gossip_members", "role", "agent"); servers != 3 || agents != 2 {
		t.Errorf("gossip_members of %v servers and %v agents, want 3 and 2", servers, agents)
	}
}

func TestTheStoresAreAsked(t *testing.T) {
	m := newMesh(t)
	down := false
	r, _ := m.register(metrics.Config{
		RedisClients: func(context.Context) (int, error) {
			if down {
				return 0, errors.New("away")
			}
			return 7, nil
		},
		Objects: func(_ context.Context, bucket string) (metrics.Objects, error) {
			if bucket != "models" {
				return metrics.Objects{}, errors.New("no such bucket")
			}
			return metrics.Objects{Count: 12, Bytes: 3456}, nil
		},
	})
	if got := labelled(t, r, "redis_connected_clients", "", ""); got != 7 {
		t.Errorf("redis_connected_clients is %v", got)
	}
	down = true
	if up := labelled(t, r, "redis_up", "", ""); up != 0 {
		t.Errorf("redis_up is %v while it is away", up)
	}
	deadline := time.Now().Add(5 * time.Second)
	for labelled(t, r, "minio_bucket_objects_total", "bucket", "models") != 12 {
		if time.Now().After(deadline) {
			t.Fatal("the objects are never counted")
		}
		time.Sleep(time.Millisecond)
	}
	if got := labelled(t, r, "minio_bucket_usage_bytes", "bucket", "models"); got != 3456 {
		t.Errorf("bytes %v", got)
	}
}

func TestDispatchIsObserved(t *testing.T) {
	m := newMesh(t)
	r, got := m.register(metrics.Config{})
	got.Planned(time.Millisecond)
	got.Placed("training")
	got.Refused()
	got.LeaseExpired()
	got.Lost("training")
	got.Ended("training", api.AttemptSucceeded, 40*time.Second)
	for name, label := range map[string]string{"scheduler_placements_total": "queue", "scheduler_placements_refused_total": "", "lease_expiries_total": "", "attempts_lost_total": "queue"} {
		if v := labelled(t, r, name, label, "training"); v != 1 {
			t.Errorf("%s is %v, want 1", name, v)
		}
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		switch f.GetName() {
		case "stage_duration_seconds":
			if h := f.GetMetric()[0].GetHistogram(); h.GetSampleSum() != 40 || h.GetSchema() == 0 && len(h.GetPositiveSpan()) == 0 {
				t.Errorf("stage_duration_seconds %v: want one of 40 s, in the native form too", h)
			}
		case "rq_job_duration_seconds":
			if q := f.GetMetric()[0].GetSummary().GetQuantile()[1]; q.GetQuantile() != .95 || q.GetValue() != 40 {
				t.Errorf("quantile %v", q)
			}
		}
	}
}

// labelled is the value of a series with a label; 0 if there is none.
func labelled(t *testing.T, r prometheus.Gatherer, name, label, value string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label != "" && (len(m.GetLabel()) == 0 || m.GetLabel()[0].GetName() != label || m.GetLabel()[0].GetValue() != value) {
				continue
			}
			return m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
		}
	}
	return 0
}
