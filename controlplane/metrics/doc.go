// Package metrics turns what a server of the control plane knows into
// Prometheus series: the queue, nodes and leases, scheduling, Raft, the event
// log and the object store. What the whole mesh shares is told by the leader
// alone, so that a sum over the servers counts nothing twice.
//
// Series that name a job, a node's id or any other thing without a bound do not
// belong here. It must not know HTTP, nor decide anything.
package metrics
