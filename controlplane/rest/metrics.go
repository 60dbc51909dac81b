package rest

import (
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
)

// Bounds of what /metrics shows of training: the jobs that reported last, and
// of each the newest epochs.
const (
	maxMetricJobs   = 100
	maxMetricEpochs = 20
)

type metrics struct {
	requests   *prometheus.CounterVec
	latency    *prometheus.HistogramVec
	streams    prometheus.Gauge
	loss       *prometheus.GaugeVec
	throughput *prometheus.GaugeVec

	mu   sync.Mutex
	jobs []jobSeries // the one that reported last is last
}

// jobSeries are the series that exist for a job.
type jobSeries struct {
	id     string
	epochs []string // oldest first
}

func newMetrics(r *prometheus.Registry, v api.Version, waiting func() int) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "api_requests_total", Help: "Requests by route, method and status."}, []string{"endpoint", "method", "status"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "api_latency_seconds", Help: "Time to answer requests, without streams, long polls and uploads.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}, []string{"endpoint", "method"}),
		streams:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "api_event_streams", Help: "Event streams that are open."}),
		loss:       prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "training_loss", Help: "Newest training loss of a job's epoch."}, []string{"job_id", "epoch"}),
		throughput: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "training_throughput_samples_per_sec", Help: "Newest training throughput of a job."}, []string{"job_id"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tunemesh_build_info", Help: "Always 1; the labels say what runs."}, []string{"version", "commit", "go", "protocol"})
	build.WithLabelValues(v.Version, v.Commit, v.Go, strconv.Itoa(v.Protocol)).Set(1)
	queue := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "queue_depth", Help: "Stages that are ready and wait for a placement."}, func() float64 { return float64(waiting()) })
	for _, c := range []prometheus.Collector{m.requests, m.latency, m.streams, m.loss, m.throughput, build, queue,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("rest: register metrics: %w", err)
		}
	}
	return m, nil
}

// observe takes the training figures out of events.
func (m *metrics) observe(list []api.Event) {
	for _, e := range list {
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
		oldest := m.jobs[0]
		m.loss.DeletePartialMatch(prometheus.Labels{"job_id": oldest.id})
		m.throughput.DeleteLabelValues(oldest.id)
		m.jobs = slices.Delete(m.jobs, 0, 1)
	}
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
				m.latency.WithLabelValues(endpoint, method).Observe(time.Since(began).Seconds())
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
