package rest

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// Bounds of what /metrics shows of training: the jobs that reported last, and
// of each the newest epochs.
const (
	maxMetricJobs   = 100
	maxMetricEpochs = 20
)

type metrics struct {
	requests   *prometheus.CounterVec
	latency    *prometheus.SummaryVec
	duration   *prometheus.HistogramVec
	lag        prometheus.Histogram
	received   *prometheus.CounterVec
	streams    prometheus.Gauge
	loss       *prometheus.GaugeVec
	throughput *prometheus.GaugeVec
	step       *prometheus.GaugeVec
	divergence *prometheus.GaugeVec

	over func(job string) bool // has it ended a while ago?

	mu   sync.Mutex
	jobs []jobSeries // the one that reported last is last
}

// jobSeries are the series that exist for a job.
type jobSeries struct {
	id     string
	epochs []string // oldest first
}

func newMetrics(r *prometheus.Registry, v api.Version, over func(job string) bool) (*metrics, error) {
	m := &metrics{
		over:     over,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "api_requests_total", Help: "Requests by route, method and status."}, []string{"endpoint", "method", "status"}),
		// The name with its quantiles is given; the histogram can be added up over
		// servers and routes, which quantiles cannot.
		latency: prometheus.NewSummaryVec(prometheus.SummaryOpts{Name: "api_latency_seconds", Help: "Quantiles of the time to answer requests over the last 10 minutes, without streams, long polls and uploads.",
			Objectives: map[float64]float64{.5: .05, .95: .005, .99: .001}}, []string{"endpoint"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "api_request_duration_seconds", Help: "Time to answer requests, without streams, long polls and uploads.",
			Buckets:                     []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour}, []string{"endpoint", "method"}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "event_lag_seconds", Help: "Time from an event's writing on its node to its place in the event log.",
			Buckets:                     []float64{.005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 300},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour}),
		received:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "events_received_total", Help: "Events that agents shipped and the event log holds, by level; what is shipped twice counts twice."}, []string{"level"}),
		streams:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "api_event_streams", Help: "Event streams that are open."}),
		loss:       prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "training_loss", Help: "Newest training loss of a job's epoch."}, []string{"job_id", "epoch"}),
		step:       prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "training_step", Help: "Newest optimizer step of a job's training."}, []string{"job_id"}),
		divergence: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "training_divergence", Help: "1 for each way in which a job's training went wrong: NaN, exploding or flat loss, collapsed throughput, stalled steps."}, []string{"job_id", "code"}),
		throughput: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "training_throughput_samples_per_sec", Help: "Newest training throughput of a job."}, []string{"job_id"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tunemesh_build_info", Help: "Always 1; the labels say what runs."}, []string{"version", "commit", "go", "protocol"})
	build.WithLabelValues(v.Version, v.Commit, v.Go, strconv.Itoa(v.Protocol)).Set(1)
	for _, c := range []prometheus.Collector{m.requests, m.latency, m.duration, m.lag, m.received, m.streams, m.loss, m.throughput, m.step, m.divergence, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("rest: register metrics: %w", err)
		}
	}
	return m, nil
}

// observe takes the figures out of events that the log took at a time.
func (m *metrics) observe(list []api.Event, at time.Time) {
	for _, e := range list {
		m.received.WithLabelValues(string(e.Level)).Inc()
		m.lag.Observe(max(0, at.Sub(e.Timestamp).Seconds()))
		if slices.Contains(contract.DivergenceCodes, e.ErrorCode) {
			m.track(e.RunID, "")
			m.divergence.WithLabelValues(e.RunID, e.ErrorCode).Set(1)
		}
		if e.Level != api.LevelMetric || (e.Loss == nil && e.SamplesPerSec == nil) {
			continue
		}
		epoch := ""
		if e.Loss != nil && e.Epoch != nil && *e.Epoch >= 0 && *e.Epoch < 1e6 {
			// 0.4 is within the first epoch, and so is 1.0.
			epoch = strconv.Itoa(max(1, int(math.Ceil(*e.Epoch))))
		}
		m.track(e.RunID, epoch)
		if epoch != "" {
			m.loss.WithLabelValues(e.RunID, epoch).Set(*e.Loss)
		}
		if e.Step != nil {
			m.step.WithLabelValues(e.RunID).Set(float64(*e.Step))
		}
		if e.SamplesPerSec != nil {
			m.throughput.WithLabelValues(e.RunID).Set(*e.SamplesPerSec)
		}
	}
}

// track remembers which series there are and lets the oldest go.
func (m *metrics) track(job, epoch string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.jobs, func(j jobSeries) bool { return j.id == job })
	series := jobSeries{id: job}
	if i >= 0 {
		series = m.jobs[i]
		m.jobs = slices.Delete(m.jobs, i, i+1)
	}
	if epoch != "" && !slices.Contains(series.epochs, epoch) {
		series.epochs = append(series.epochs, epoch)
		if len(series.epochs) > maxMetricEpochs {
			m.loss.DeleteLabelValues(job, series.epochs[0])
			series.epochs = slices.Delete(series.epochs, 0, 1)
		}
	}
	m.jobs = append(m.jobs, series)
	if len(m.jobs) > maxMetricJobs {
		m.dropLocked(m.jobs[0].id)
		m.jobs = slices.Delete(m.jobs, 0, 1)
	}
}

// prune lets the series of jobs go that ended a while ago: long enough for
// their last figures to have been scraped.
func (m *metrics) prune() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jobs = slices.DeleteFunc(m.jobs, func(j jobSeries) bool {
		if !m.over(j.id) {
			return false
		}
		m.dropLocked(j.id)
		return true
	})
}

func (m *metrics) dropLocked(job string) {
	m.loss.DeletePartialMatch(prometheus.Labels{"job_id": job})
	m.throughput.DeleteLabelValues(job)
	m.step.DeleteLabelValues(job)
	m.divergence.DeletePartialMatch(prometheus.Labels{"job_id": job})
}

// keepSeries is how long a job's series stay after its end: a few scrapes.
const keepSeries = 5 * time.Minute

// endedLongAgo says whether a job's series may go.
func (s *Server) endedLongAgo(id string) bool {
	job, err := s.Store.Job(id)
	if errors.Is(err, state.ErrNotFound) {
		return true
	}
	return err == nil && job.State.Terminal() && job.FinishedAt != nil && s.Clock().Sub(*job.FinishedAt) > keepSeries
}

// slow are the routes whose time says nothing of the server's speed.
var slow = []string{"GET /v1/jobs/{id}/events", "GET /v1/nodes/{id}/assignments", "POST /v1/datasets"}

// wrap counts and times requests by route, never by path, so that the number of
// series is bounded.
func (m *metrics) wrap(route func(*http.Request) string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		pattern := route(r)
		method, endpoint, ok := strings.Cut(pattern, " ")
		if !ok {
			method, endpoint = "other", "none"
		}
		defer func() {
			m.requests.WithLabelValues(endpoint, method, strconv.Itoa(seen.status)).Inc()
			if !slices.Contains(slow, pattern) {
				took := time.Since(began).Seconds()
				m.latency.WithLabelValues(endpoint).Observe(took)
				m.duration.WithLabelValues(endpoint, method).Observe(took)
			}
		}()
		next.ServeHTTP(seen, r)
	})
}

// statusWriter remembers the status. Unwrap lets a ResponseController through.
type statusWriter struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (w *statusWriter) WriteHeader(status int) {
	if !w.wrote {
		w.status, w.wrote = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(p)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
