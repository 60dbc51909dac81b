// Package consensus keeps the state of the mesh on several servers by
// hashicorp/raft: log store, snapshots, transport, bootstrap, membership,
// proposals, linearizable reads, and the fail-stop guard against a disk that
// hangs. It knows how commands are agreed on, never what they mean, and serves
// no HTTP.
package consensus
