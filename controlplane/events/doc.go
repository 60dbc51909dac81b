// Package events keeps the ordered event stream of each job: appended by
// compare-and-append, so that a batch sent twice is stored once and a hole is
// never stored; numbered from 1 without holes; replayed from any number; and
// followed by any number of readers, none of which can slow the writer.
//
// Log is the contract; Disk keeps it in segments on the local disk. The package
// knows events as lines and numbers, and nothing of jobs' states, leases or
// HTTP.
package events
