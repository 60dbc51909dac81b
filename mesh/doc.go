// Package mesh is the gossip between servers and agents: who is there, and what
// each can do. It wraps hashicorp/memberlist, which nothing else imports.
//
// Gossip is a hint, never an authority: a member that is not seen may live, and
// leases are decided by heartbeats. The package must not know of jobs, leases
// or what a capability document says; it carries bytes.
package mesh
