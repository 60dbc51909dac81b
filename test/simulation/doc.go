// Package simulation runs a whole mesh in one process on simulated time: three
// control-plane servers with real Raft, state, dispatcher and REST handlers, and
// real node agents with their real records and spools, in a testing/synctest
// bubble. What lies between and below them is simulated: the network, the servers'
// disks, the machines that agents run stages on, the object store. A seed decides
// what breaks and when; then all is healed, and the mesh has to come to rest with
// every invariant intact.
//
//	make test-simulation SEEDS=1000
//
// It is all tests: what a seed fixes, and what it does not, is in
// docs/reliability.md.
package simulation
