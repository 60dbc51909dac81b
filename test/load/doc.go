// Package load measures a mesh under load: real servers, each a process of its
// own with Raft on disk, and simulated nodes that speak the agents' protocol
// over HTTP but start nothing.
//
//	make bench PKG=./test/load
//
// TestLoad is one mesh with everything at once, and asserts what must hold;
// its figures are printed:
//
//	make test-load MINUTES=3
//
// Sizes of benchmarks are small by default; TUNEMESH_AGENTS and TUNEMESH_STAGES make them
// those of docs/benchmarks.md.
package load
