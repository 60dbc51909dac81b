//lint:file-ignore SA1019 Grafana 10 and 11, which many run, read this schema alone; its successor needs 12

package grafana

import (
	"encoding/json"
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// Dashboards are all of them as JSON, by the name of their file.
func Dashboards() (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, b := range map[string]*dashboard.DashboardBuilder{
		"fleet": fleet(), "job": job(), "gpus": gpus(), "controlplane": controlPlane(), "queue": queue(),
	} {
		d, err := b.Build()
		if err != nil {
			return nil, fmt.Errorf("grafana: dashboard %s: %w", name, err)
		}
		data, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("grafana: dashboard %s: %w", name, err)
		}
		files[name+".json"] = append(data, '\n')
	}
	return files, nil
}

func fleet() *dashboard.DashboardBuilder {
	return board("tunemesh-fleet", "Tunemesh / Fleet", "The nodes: who is there, what they do, what they have left.").
		WithPanel(figure("Nodes alive", "Nodes with a lease.", "short", series{`max(nodes{status="alive"})`, "alive"})).
		WithPanel(figure("Nodes silent", "Nodes whose lease ran out.", "short", series{`max(nodes{status="disconnected"})`, "disconnected"})).
		WithPanel(figure("Draining", "Nodes on which nothing new is placed.", "short", series{`max(nodes_draining)`, "draining"})).
		WithPanel(figure("Attempts running", "Attempts placed and not over.", "short", series{`sum(max by (queue) (attempts_running))`, "running"})).
		WithPanel(graph("Cores at work", "Share of each machine's cores that work.", "percentunit", half, series{`node_cpu_busy_ratio`, "{{instance}}"})).
		WithPanel(graph("Memory available", "What can be used without swapping.", "bytes", half, series{`node_memory_available_bytes`, "{{instance}}"})).
		WithPanel(graph("Disk free", "Where the agents work: checkpoints, cache, spool.", "bytes", half, series{`node_disk_free_bytes`, "{{instance}}"})).
		WithPanel(graph("Heartbeat age", "Time since the control plane acknowledged a heartbeat.", "s", half, series{`agent_heartbeat_age_seconds`, "{{instance}}"})).
		WithPanel(graph("Attempts by node", "Attempts that run, by kind.", "short", half, series{`sum by (instance, queue) (agent_attempts_running)`, "{{instance}} {{queue}}"})).
		WithPanel(graph("Leases that ran out", "A node that falls silent, and attempts given up with it.", "short", half,
			series{`sum(increase(lease_expiries_total[5m]))`, "leases"}, series{`sum(increase(attempts_lost_total[5m]))`, "attempts lost"})).
		WithPanel(graph("Spool", "Lines that agents hold, and those not acknowledged yet.", "bytes", half,
			series{`spool_bytes`, "{{instance}}"}, series{`spool_pending_bytes`, "{{instance}} not acknowledged"})).
		WithPanel(graph("Cache", "Inputs kept on the nodes, and how often they were there.", "short", half,
			series{`rate(cache_hits_total[5m])`, "{{instance}} hits/s"}, series{`rate(cache_misses_total[5m])`, "{{instance}} misses/s"}))
}

func job() *dashboard.DashboardBuilder {
	return board("tunemesh-job", "Tunemesh / Job", "The training of one or more jobs.").
		WithVariable(choice("job", "Job", "training_loss, job_id")).
		WithPanel(graph("Loss", "Newest training loss of each epoch.", "short", wide, series{`max by (job_id, epoch) (training_loss{job_id=~"$job"})`, "{{job_id}} epoch {{epoch}}"})).
		WithPanel(graph("Throughput", "Samples a second.", "short", third, series{`max by (job_id) (training_throughput_samples_per_sec{job_id=~"$job"})`, "{{job_id}}"})).
		WithPanel(graph("Step", "Optimizer steps done.", "short", third, series{`max by (job_id) (training_step{job_id=~"$job"})`, "{{job_id}}"})).
		WithPanel(graph("Steps a minute", "A line at zero is a training that stalls.", "short", third, series{`max by (job_id) (60 * deriv(training_step{job_id=~"$job"}[2m]))`, "{{job_id}}"})).
		WithPanel(graph("What went wrong", "NaN, exploding or flat loss, collapsed throughput, stalled steps.", "short", wide, series{`max by (job_id, code) (training_divergence{job_id=~"$job"})`, "{{job_id}} {{code}}"}))
}

func gpus() *dashboard.DashboardBuilder {
	return board("tunemesh-gpus", "Tunemesh / GPUs", "Every GPU of the mesh, as its node's agent measures it.").
		WithVariable(choice("node", "Node", "gpu_utilization_percent, instance")).
		WithPanel(graph("Utilization", "Share of the last moments in which the GPU worked.", "percent", wide, series{`gpu_utilization_percent{instance=~"$node"}`, "{{instance}} GPU {{gpu_id}}"})).
		WithPanel(graph("Memory in use", "", "bytes", half, series{`gpu_memory_used_bytes{instance=~"$node"}`, "{{instance}} GPU {{gpu_id}}"})).
		WithPanel(graph("Temperature", "Most GPUs slow down near 90 degrees Celsius.", "celsius", half, series{`gpu_temperature_celsius{instance=~"$node"}`, "{{instance}} GPU {{gpu_id}}"}))
}

func controlPlane() *dashboard.DashboardBuilder {
	return board("tunemesh-controlplane", "Tunemesh / Control plane", "API, Raft, event log and stores.").
		WithPanel(figure("Leader", "1: one server leads.", "short", series{`sum(raft_leader)`, "leaders"})).
		WithPanel(figure("Voters", "Servers that vote.", "short", series{`max(raft_voters)`, "voters"})).
		WithPanel(figure("Term", "A rise is an election.", "short", series{`max(raft_term)`, "term"})).
		WithPanel(figure("Redis clients", "Connected to the event log's Redis.", "short", series{`max(redis_connected_clients)`, "clients"})).
		WithPanel(graph("Requests", "By route and status.", "reqps", half, series{`sum by (endpoint, status) (rate(api_requests_total[5m]))`, "{{endpoint}} {{status}}"})).
		WithPanel(graph("Latency, 95th percentile", "Without streams, long polls and uploads.", "s", half, series{`histogram_quantile(0.95, sum by (endpoint, le) (rate(api_request_duration_seconds_bucket[5m])))`, "{{endpoint}}"})).
		WithPanel(graph("Raft: entries applied", "A server that lags behind is slow or cut off.", "short", half, series{`rate(raft_applied_index[1m])`, "{{instance}}"})).
		WithPanel(graph("Raft: last contact", "Time since a server heard from the leader.", "s", half, series{`raft_last_contact_seconds`, "{{instance}}"})).
		WithPanel(graph("Events", "Lines that agents ship, by level.", "cps", half, series{`sum by (level) (rate(events_received_total[1m]))`, "{{level}}"})).
		WithPanel(graph("Event lag", "From a line's writing to its place in the log.", "s", half,
			series{`histogram_quantile(0.5, sum by (le) (rate(event_lag_seconds_bucket[5m])))`, "median"},
			series{`histogram_quantile(0.99, sum by (le) (rate(event_lag_seconds_bucket[5m])))`, "99th percentile"})).
		WithPanel(graph("Event streams", "Readers that follow a job.", "short", half, series{`api_event_streams`, "{{instance}}"})).
		WithPanel(graph("Object store", "Bytes in each bucket.", "bytes", half, series{`max by (bucket) (minio_bucket_usage_bytes)`, "{{bucket}}"})).
		WithPanel(graph("Objects", "Objects in each bucket.", "short", half, series{`max by (bucket) (minio_bucket_objects_total)`, "{{bucket}}"})).
		WithPanel(graph("Servers' memory", "", "bytes", half, series{`process_resident_memory_bytes`, "{{instance}}"}))
}

func queue() *dashboard.DashboardBuilder {
	return board("tunemesh-queue", "Tunemesh / Queue", "What waits, what is placed, and how long it takes.").
		WithPanel(graph("Queue depth", "Stages that are ready and wait for a placement.", "short", half, series{`max by (queue) (queue_depth)`, "{{queue}}"})).
		WithPanel(graph("Oldest wait", "How long the oldest has waited.", "s", half, series{`max by (queue) (queue_oldest_wait_seconds)`, "{{queue}}"})).
		WithPanel(graph("Placements", "Attempts placed a second, and placements that came too late.", "ops", half,
			series{`sum by (queue) (rate(scheduler_placements_total[5m]))`, "{{queue}}"}, series{`sum(rate(scheduler_placements_refused_total[5m]))`, "refused"})).
		WithPanel(graph("Planning, 99th percentile", "Time to plan one round.", "s", half, series{`histogram_quantile(0.99, sum by (le) (rate(scheduler_plan_duration_seconds_bucket[5m])))`, "plan"})).
		WithPanel(graph("Stage duration, 95th percentile", "From an attempt's start to its end.", "s", half, series{`histogram_quantile(0.95, sum by (queue, le) (rate(stage_duration_seconds_bucket[1h])))`, "{{queue}}"})).
		WithPanel(graph("Ends", "How attempts ended.", "short", half, series{`sum by (outcome) (increase(stage_duration_seconds_count[1h]))`, "{{outcome}}"})).
		WithPanel(graph("Running", "Attempts that are placed and not over.", "short", half, series{`max by (queue) (attempts_running)`, "{{queue}}"}, series{`max(attempts_unknown)`, "node silent"})).
		WithPanel(graph("Dead letters", "Stages that wait for a person.", "short", half, series{`max(dead_letters)`, "dead letters"}))
}
