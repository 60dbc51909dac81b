// Package load measures a mesh under load: real servers, each a process of its
// own with Raft on disk, and simulated nodes that speak the agents' protocol
// over HTTP but start nothing.
//
//	make bench PKG=./test/load
//
// Sizes are small by default; TUNEMESH_AGENTS and TUNEMESH_STAGES make them
// those of docs/benchmarks.md.
package load
