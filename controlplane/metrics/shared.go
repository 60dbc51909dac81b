package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// shared tells what is true of the mesh as a whole; only while this server
// leads.
type shared struct{ Config }

var (
	queueDepth  = desc("queue_depth", "Stages that are ready and wait for a placement, by kind.", "queue")
	rqDepth     = desc("rq_queue_depth", "Alias of queue_depth for dashboards that know this name.", "queue")
	oldestWait  = desc("queue_oldest_wait_seconds", "How long the oldest stage of a kind has been ready without a placement; backoff does not count.", "queue")
	running     = desc("attempts_running", "Attempts that are placed and not over, by the kind of their stage.", "queue")
	unknown     = desc("attempts_unknown", "Attempts whose node is silent and whose grace has not run out.")
	nodes       = desc("nodes", "Nodes, by what the leader knows of them.", "status")
	drained     = desc("nodes_draining", "Nodes on which nothing new is placed.")
	deadLetters = desc("dead_letters", "Stages that exhausted their attempts and wait for a person.")
	projection  = desc("event_projection_backlog_jobs", "Jobs with state changes that may not stand in the event log yet.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

func (s *shared) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queueDepth, rqDepth, oldestWait, running, unknown, nodes, drained, deadLetters, projection} {
		ch <- d
	}
}

func (s *shared) Collect(ch chan<- prometheus.Metric) {
	if !s.Raft().Leader {
		return
	}
	view := s.Store.At()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	depth, wait := map[string]int{}, map[string]time.Duration{}
	for _, stage := range view.ReadyStages() {
		depth[stage.Kind]++
		wait[stage.Kind] = max(wait[stage.Kind], waited(stage, s.Clock()))
	}
	live, silent := s.attempts(view)
	for _, q := range queues() {
		gauge(queueDepth, float64(depth[q]), q)
		gauge(rqDepth, float64(depth[q]), q)
		gauge(oldestWait, wait[q].Seconds(), q)
		gauge(running, float64(live[q]), q)
	}
	gauge(unknown, float64(silent))
	s.nodes(view, gauge)
	gauge(deadLetters, float64(len(view.DeadLetters(""))))
	gauge(projection, float64(len(view.TransitionBacklogs())))
}

// waited is how long a ready stage could have been placed.
func waited(stage api.Stage, now time.Time) time.Duration {
	since := stage.ReadyAt
	if since == nil {
		return 0
	}
	if stage.NotBefore != nil && stage.NotBefore.After(*since) {
		since = stage.NotBefore
	}
	return max(0, now.Sub(*since))
}

func (s *shared) attempts(view state.View) (live map[string]int, silent int) {
	live = map[string]int{}
	for _, n := range view.Nodes() {
		for _, a := range view.AttemptsOnNode(n.ID) {
			stage, err := view.Stage(a.JobID, a.Stage)
			if err != nil {
				continue
			}
			live[stage.Kind]++
			if a.State == api.AttemptUnknown {
				silent++
			}
		}
	}
	return live, silent
}

func (s *shared) nodes(view state.View, gauge func(*prometheus.Desc, float64, ...string)) {
	status := map[api.NodeStatus]int{}
	draining := 0
	for _, n := range view.Nodes() {
		s.FillNode(&n)
		status[n.Status]++
		if n.Drain {
			draining++
		}
	}
	for _, of := range []api.NodeStatus{api.NodeAlive, api.NodeDisconnected, api.NodeUnseen} {
		gauge(nodes, float64(status[of]), string(of))
	}
	gauge(drained, float64(draining))
}
