// Package events follows lines on their whole way - from a stage's process
// through the agent's spool, a server, its event log and its archive to a reader
// - while servers, Redis and the agent fall and come back, and measures that way.
// Servers share a state without Raft, so that a test says who leads.
package events
