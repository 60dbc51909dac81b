package scheduler

import (
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// SlotTraining is the slot of which a node has one for trainings and evaluations
// on CPU.
const SlotTraining = "training"

// View is all that a plan depends on, but the time.
type View struct {
	Nodes    []Node
	Requests []Request
}

// Node is a machine and what is reserved on it. Ids are unique.
type Node struct {
	ID, Name string
	Labels   map[string]string
	// Alive: the node's lease holds. Drain: it takes no new attempts.
	Alive, Drain bool
	Capability   api.Capability
	Used         Used
}

// Used is what live attempts reserve.
type Used struct {
	CPUCores    int
	MemoryBytes int64
	GPUs        []int
	Slots       []string
}

// Request is a ready stage. JobID and Stage together are unique.
type Request struct {
	JobID, Stage, Kind string
	Requires           api.Requirements
	Priority           int
	// Since decides among equal priorities: when the job was created.
	Since time.Time
	// NotBefore is the end of a backoff; zero for none.
	NotBefore time.Time
}

// Decision is what Plan decides.
type Decision struct {
	// Placements come in the order in which they were decided.
	Placements []Placement
	// Waits has every request that was not placed, in the same order.
	Waits []Wait
	// NextAt is the earliest NotBefore among the waiting; zero for none.
	NextAt time.Time
}

// Placement is one stage on one node with what it reserves there.
type Placement struct {
	JobID, Stage, NodeID string
	Devices              api.Devices
	Slot                 string
}

// Wait is why a stage is not placed, in words.
type Wait struct {
	JobID, Stage, Reason string
}
