// Package failpoint names the moments between two steps at which a process may
// end and nothing may be lost: after an upload and before its report, after a
// report and before its answer, between a snapshot and its name. Tests order one
// process to end, fail or wait at exactly such a moment.
//
// In the product it is nothing: At is empty, and neither a name nor a switch is
// in the binary (test/chaos proves it). The build tag chaos makes At obey the
// orders in a folder, see on.go.
//
// It must not know what happens at its points.
package failpoint
