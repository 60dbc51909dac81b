package api

import "time"

// Node is a machine that runs an agent.
type Node struct {
	ID        string            `json:"id" doc:"derived from the node's public key" example:"n-5f0c2b9a7e31"`
	Name      string            `json:"name" example:"ws-anna"`
	PublicKey []byte            `json:"public_key,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Drain     bool              `json:"drain,omitempty" doc:"no new attempts are placed here"`
	// Approval is empty for a node that may run attempts.
	Approval   string     `json:"approval,omitempty" doc:"pending or rejected; absent: it may run attempts"`
	Capability Capability `json:"capability"`
	Digest     string     `json:"digest" doc:"of the capability document"`
	Version    string     `json:"version" doc:"of the agent"`
	Protocol   int        `json:"protocol"`
	JoinedAt   time.Time  `json:"joined_at"`
	// Status, LastSeen and Load are the leader's memory, not replicated.
	Status   NodeStatus `json:"status"`
	LastSeen *time.Time `json:"last_seen,omitempty"`
	Load     *NodeLoad  `json:"load,omitempty" doc:"of its last heartbeat"`
	Running  int        `json:"running" doc:"attempts placed here"`
	Index    uint64     `json:"index"`
}

// NodeStatus is what the leader thinks of a node's liveness.
type NodeStatus string

// Statuses of a node.
const (
	NodeUnseen       NodeStatus = "unseen" // no heartbeat since this server leads
	NodeAlive        NodeStatus = "alive"
	NodeDisconnected NodeStatus = "disconnected"
)

// Capability is what a node can do.
type Capability struct {
	OS          string   `json:"os"`
	Arch        string   `json:"arch"`
	Hostname    string   `json:"hostname,omitempty"`
	CPU         CPU      `json:"cpu"`
	MemoryBytes int64    `json:"memory_bytes"`
	DiskBytes   int64    `json:"disk_bytes" doc:"free where the agent works"`
	GPUs        []GPU    `json:"gpus,omitempty"`
	Engines     []Engine `json:"engines"`
	Launchers   []string `json:"launchers,omitempty" example:"local"`
	// MetricsAddr is where the agent serves /metrics, if it does.
	MetricsAddr string `json:"metrics_addr,omitempty" doc:"HOST:PORT of the agent's /metrics" example:"10.0.0.7:7704"`
}

// CPU describes the processor.
type CPU struct {
	Model    string   `json:"model"`
	Cores    int      `json:"cores" doc:"usable by this process"`
	Features []string `json:"features,omitempty" example:"avx512f"`
}

// GPU describes one accelerator.
type GPU struct {
	Index             int    `json:"index"`
	Kind              string `json:"kind" doc:"cuda, rocm or metal" example:"cuda"`
	Name              string `json:"name" example:"NVIDIA RTX 4090"`
	UUID              string `json:"uuid,omitempty"`
	MemoryBytes       int64  `json:"memory_bytes"`
	MemoryFreeBytes   int64  `json:"memory_free_bytes,omitempty"`
	Driver            string `json:"driver,omitempty"`
	ComputeCapability string `json:"compute_capability,omitempty" example:"8.9"`
}

// Engine is something that trains, and why it cannot where it cannot.
type Engine struct {
	Name      string   `json:"name" example:"native"`
	Available bool     `json:"available"`
	Reason    string   `json:"reason,omitempty"`
	Devices   []string `json:"devices,omitempty" example:"cpu"`
	Version   string   `json:"version,omitempty"`
}

// HasEngine says whether the node can run an engine.
func (c Capability) HasEngine(name string) bool {
	for _, e := range c.Engines {
		if e.Name == name && e.Available {
			return true
		}
	}
	return false
}
