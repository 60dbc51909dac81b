// Package api holds the words of Tunemesh as types: what a user submits and
// sees, what an agent and the control plane say to each other, the states and
// their legal transitions, and the pure rules of a pipeline.
//
// It uses the standard library only and knows no storage, no HTTP server and
// no clock. Everything that control plane, agent and client share stands here;
// they meet nowhere else.
package api

// ProtocolVersion is the version of what agents and servers say to each other.
//
//	1  2026-11-24  first: register, heartbeat, assignments, events, uploads, report
//	2  2026-11-24  a node enrols with its key and has a credential of its own; servers
//	               join by token; keyring, join tokens and approval in Raft
//	3  2026-11-24  one entry places many attempts; the answer to a heartbeat says when
//	               the next is due
//	4  2026-11-29  the gossip's key is exchanged while the mesh runs; files go up in
//	               parts, and by links bound to their hash (whoever does not know
//	               them goes on with one plain PUT)
//	5  2026-11-29  a model that is replaced stays with the jobs that began with it, and
//	               says where it came from; a training goes on from another job's
//	               adapter
const ProtocolVersion = 5
