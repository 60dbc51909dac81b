package exporter

import (
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tunemesh/tunemesh/nodeagent"
)

// Exporter serves /metrics until Close.
type Exporter struct {
	server  *http.Server
	serving sync.WaitGroup
	err     error
}

// Version names the program in tunemesh_build_info.
type Version struct{ Version, Commit string }

// Listen takes an address for Serve. Port 0 takes any.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("exporter: listen for /metrics: %w (another agent on this machine? choose another --metrics-addr, or none with --metrics-addr '')", err)
	}
	return l, nil
}

// Serve answers GET /metrics with the figures as they are at each scrape.
func Serve(l net.Listener, v Version, figures func() nodeagent.Figures) (*Exporter, error) {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tunemesh_build_info", Help: "Always 1; the labels say what runs."}, []string{"version", "commit", "go"})
	build.WithLabelValues(v.Version, v.Commit, runtime.Version()).Set(1)
	for _, c := range []prometheus.Collector{collector{figures}, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("exporter: register: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	e := &Exporter{server: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}}
	e.serving.Go(func() {
		if err := e.server.Serve(l); err != http.ErrServerClosed {
			e.err = err
		}
	})
	return e, nil
}

// Close ends the serving.
func (e *Exporter) Close() error {
	err := e.server.Close()
	e.serving.Wait()
	if err == nil {
		err = e.err
	}
	return err
}

type collector struct{ figures func() nodeagent.Figures }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	gpuUtilization = desc("gpu_utilization_percent", "Share of the last moments in which the GPU worked.", "gpu_id")
	gpuMemory      = desc("gpu_memory_used_bytes", "Memory of the GPU in use.", "gpu_id")
	gpuTemperature = desc("gpu_temperature_celsius", "Temperature of the GPU.", "gpu_id")
	cpuBusy        = desc("node_cpu_busy_ratio", "Share of the last seconds in which the machine's cores worked, 0 to 1.")
	memoryFree     = desc("node_memory_available_bytes", "Memory that can be used without swapping.")
	diskFree       = desc("node_disk_free_bytes", "Free disk where the agent works.")
	running        = desc("agent_attempts_running", "Attempts that are here and not yet reported, by the kind of their stage.", "queue")
	heartbeatAge   = desc("agent_heartbeat_age_seconds", "Time since the control plane last acknowledged a heartbeat.")
	spoolBytes     = desc("spool_bytes", "What the attempts here have printed and the agent keeps.")
	spoolPending   = desc("spool_pending_bytes", "What of the spool the control plane has not acknowledged.")
	spoolLimit     = desc("spool_limit_bytes", "What one attempt's lines may take before some are dropped, with a gap event that says which.")
	uploadBytes    = desc("upload_pending_bytes", "What is still to be sent of files on their way to the object store.")
	gossipMembers  = desc("gossip_members", "Servers and agents that this one sees by gossip, itself included.", "role")
	cacheBytes     = desc("cache_bytes", "Inputs kept on this machine.")
	cacheLimit     = desc("cache_limit_bytes", "What the cache may hold.")
	cacheHits      = desc("cache_hits_total", "Inputs that were here already.")
	cacheMisses    = desc("cache_misses_total", "Inputs that had to be fetched.")
)

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{gpuUtilization, gpuMemory, gpuTemperature, cpuBusy, memoryFree, diskFree, running, heartbeatAge,
		spoolBytes, spoolPending, spoolLimit, uploadBytes, cacheBytes, cacheLimit, cacheHits, cacheMisses, gossipMembers} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	f := c.figures()
	tell := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) { tell(d, prometheus.GaugeValue, v, labels...) }
	for _, g := range f.Load.GPUs {
		id := strconv.Itoa(g.Index)
		if g.UtilPercent != nil {
			gauge(gpuUtilization, *g.UtilPercent, id)
		}
		if g.MemoryUsedBytes != nil {
			gauge(gpuMemory, float64(*g.MemoryUsedBytes), id)
		}
		if g.TemperatureC != nil {
			gauge(gpuTemperature, *g.TemperatureC, id)
		}
	}
	gauge(cpuBusy, f.Load.CPUPercent/100)
	gauge(memoryFree, float64(f.Load.MemoryFreeBytes))
	gauge(diskFree, float64(f.Load.DiskFreeBytes))
	for kind, n := range f.Running {
		gauge(running, float64(n), kind)
	}
	for role, n := range f.GossipMembers {
		gauge(gossipMembers, float64(n), role)
	}
	gauge(heartbeatAge, f.HeartbeatAge.Seconds())
	gauge(spoolBytes, float64(f.SpoolBytes))
	gauge(spoolPending, float64(f.SpoolPending))
	if f.SpoolLimit > 0 {
		gauge(spoolLimit, float64(f.SpoolLimit))
	}
	gauge(uploadBytes, float64(f.UploadBytes))
	gauge(cacheBytes, float64(f.Cache.Bytes))
	gauge(cacheLimit, float64(f.Cache.Limit))
	tell(cacheHits, prometheus.CounterValue, float64(f.Cache.Hits))
	tell(cacheMisses, prometheus.CounterValue, float64(f.Cache.Misses))
}
