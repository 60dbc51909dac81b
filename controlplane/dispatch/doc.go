// Package dispatch is the leader's loop: it gives ready stages to nodes, keeps
// the nodes' leases, takes reports, computes backoffs, writes state changes to
// the event log and has well-known copies made. It exists only while its server
// leads; all it remembers itself (leases, reasons for waiting) can be rebuilt
// within one lease. It decides nothing about capacity (scheduler does) and
// changes nothing but by commands.
package dispatch
