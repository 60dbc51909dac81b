package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tunemesh/tunemesh/api"
)

// Bounds of what a scrape costs the stores.
const (
	storeTimeout = 2 * time.Second
	// countPause: counting a bucket lists it.
	countPause   = 5 * time.Minute
	countTimeout = time.Minute
)

// stores tells of Redis and of the object store.
type stores struct {
	Config
	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	mu       sync.Mutex
	counted  map[string]Objects
	at       time.Time
	counting bool
}

func newStores(c Config) *stores {
	s := &stores{Config: c}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

func (s *stores) close() {
	s.mu.Lock()
	s.end()
	s.mu.Unlock()
	s.work.Wait()
}

var (
	redisClients = desc("redis_connected_clients", "Clients connected to the event log's Redis.")
	redisUp      = desc("redis_up", "1 if the event log's Redis answered.")
	objectCount  = desc("minio_bucket_objects_total", "Objects in a bucket of the object store, counted every 5 minutes by the leader.", "bucket")
	objectBytes  = desc("minio_bucket_usage_bytes", "Bytes in a bucket of the object store, counted every 5 minutes by the leader.", "bucket")
)

func (s *stores) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{redisClients, redisUp, objectCount, objectBytes} {
		ch <- d
	}
}

func (s *stores) Collect(ch chan<- prometheus.Metric) {
	if s.RedisClients != nil {
		ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
		n, err := s.RedisClients(ctx)
		cancel()
		ch <- prometheus.MustNewConstMetric(redisUp, prometheus.GaugeValue, truth(err == nil))
		if err == nil {
			ch <- prometheus.MustNewConstMetric(redisClients, prometheus.GaugeValue, float64(n))
		}
	}
	if s.Objects == nil || !s.Raft().Leader {
		return
	}
	for bucket, o := range s.count() {
		// Untyped: the name, which is given, ends like a counter's, but objects
		// are deleted too.
		ch <- prometheus.MustNewConstMetric(objectCount, prometheus.UntypedValue, float64(o.Count), bucket)
		ch <- prometheus.MustNewConstMetric(objectBytes, prometheus.GaugeValue, float64(o.Bytes), bucket)
	}
}

// count returns what was counted last. A count that is due runs beside the
// scrape, which must not wait for it.
func (s *stores) count() map[string]Objects {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() == nil && !s.counting && (s.at.IsZero() || s.Clock().Sub(s.at) >= countPause) {
		s.counting, s.at = true, s.Clock()
		s.work.Go(s.recount)
	}
	return s.counted
}

func (s *stores) recount() {
	ctx, cancel := context.WithTimeout(s.life, countTimeout)
	defer cancel()
	counted := map[string]Objects{}
	for _, bucket := range api.Buckets {
		if o, err := s.Objects(ctx, bucket); err == nil {
			counted[bucket] = o
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counted, s.counting = counted, false
}
