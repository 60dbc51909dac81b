package metrics

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// Raft is what a server knows of its part in Raft.
type Raft struct {
	Leader, Ready              bool
	HasLeader                  bool
	Term                       uint64
	LastIndex, Commit, Applied uint64
	Voters                     int
	// Contact is when the leader was last heard of; zero: never.
	Contact time.Time
}

// Config says what to tell. Store, Raft and FillNode are needed.
type Config struct {
	Store *state.Store
	Raft  func() Raft
	// Gossip counts whom this server sees by gossip, by role; nil: not told.
	Gossip func() map[string]int
	// FillNode adds a node's status, which only the leader knows.
	FillNode func(*api.Node)
	// RedisClients counts the clients of the event log's Redis; nil without one.
	RedisClients func(context.Context) (int, error)
	// Objects counts what lies in a bucket; nil: not told.
	Objects func(ctx context.Context, bucket string) (Objects, error)
	Clock   func() time.Time
}

// Objects is what lies in a bucket.
type Objects struct {
	Count int64
	Bytes int64
}

// Metrics are a server's series. Its methods are dispatch's observer.
type Metrics struct {
	planning   prometheus.Histogram
	placements *prometheus.CounterVec
	refused    prometheus.Counter
	expired    prometheus.Counter
	lost       *prometheus.CounterVec
	ended      *prometheus.HistogramVec
	quantiles  *prometheus.SummaryVec
	stores     *stores
}

// latencyBuckets of classic histograms, in seconds; native ones need none.
var latencyBuckets = []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 10}

// stageBuckets, in seconds: from a small validation to a day of training.
var stageBuckets = []float64{1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600}

// native turns a histogram into one that Prometheus may scrape in the native
// form: resolution about 10 %, at most 100 buckets.
func native(o prometheus.HistogramOpts) prometheus.HistogramOpts {
	o.NativeHistogramBucketFactor = 1.1
	o.NativeHistogramMaxBucketNumber = 100
	o.NativeHistogramMinResetDuration = time.Hour
	return o
}

// New registers a server's series.
func New(r prometheus.Registerer, c Config) (*Metrics, error) {
	if c.Store == nil || c.Raft == nil || c.FillNode == nil {
		return nil, errors.New("metrics: store, raft and nodes are needed")
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	m := &Metrics{
		planning:   prometheus.NewHistogram(native(prometheus.HistogramOpts{Name: "scheduler_plan_duration_seconds", Help: "Time to plan one round of placements.", Buckets: latencyBuckets})),
		placements: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "scheduler_placements_total", Help: "Attempts placed, by the kind of their stage."}, []string{"queue"}),
		refused:    prometheus.NewCounter(prometheus.CounterOpts{Name: "scheduler_placements_refused_total", Help: "Placements that the state refused because something had changed since the plan."}),
		expired:    prometheus.NewCounter(prometheus.CounterOpts{Name: "lease_expiries_total", Help: "Leases of nodes that ran out."}),
		lost:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "attempts_lost_total", Help: "Attempts given up with their node, by the kind of their stage."}, []string{"queue"}),
		ended:      prometheus.NewHistogramVec(native(prometheus.HistogramOpts{Name: "stage_duration_seconds", Help: "Time from an attempt's start to its end, by the kind of its stage and by its end.", Buckets: stageBuckets}), []string{"queue", "outcome"}),
		stores:     newStores(c),
		quantiles:  prometheus.NewSummaryVec(prometheus.SummaryOpts{Name: "rq_job_duration_seconds", Help: "Alias of stage_duration_seconds for dashboards that know this name: quantiles over the last hour.", Objectives: map[float64]float64{.5: .05, .95: .005, .99: .001}, MaxAge: time.Hour}, []string{"queue"}),
	}
	for _, collector := range []prometheus.Collector{m.planning, m.placements, m.refused, m.expired, m.lost, m.ended, m.quantiles,
		&shared{c}, &own{c}, m.stores} {
		if err := r.Register(collector); err != nil {
			return nil, fmt.Errorf("metrics: register: %w", err)
		}
	}
	return m, nil
}

// Close ends the counting of buckets.
func (m *Metrics) Close() error {
	m.stores.close()
	return nil
}

// Planned takes the time of one plan.
func (m *Metrics) Planned(d time.Duration) { m.planning.Observe(d.Seconds()) }

// Placed counts an attempt that was placed.
func (m *Metrics) Placed(kind string) { m.placements.WithLabelValues(kind).Inc() }

// Refused counts a placement that was out of date.
func (m *Metrics) Refused() { m.refused.Inc() }

// LeaseExpired counts a node that fell silent.
func (m *Metrics) LeaseExpired() { m.expired.Inc() }

// Lost counts an attempt that was given up.
func (m *Metrics) Lost(kind string) { m.lost.WithLabelValues(kind).Inc() }

// Ended takes the time of an attempt whose end was accepted.
func (m *Metrics) Ended(kind string, end api.AttemptState, d time.Duration) {
	m.ended.WithLabelValues(kind, string(end)).Observe(d.Seconds())
	m.quantiles.WithLabelValues(kind).Observe(d.Seconds())
}

// queues are all values of the label queue: the kinds of stages.
func queues() []string { return append([]string{api.KindCustom}, api.ServedKinds...) }
