// Package contract is the stage contract: what a stage process reads, what it
// writes, and where. A node agent and a stage share this package and nothing
// else. docs/stage-contract.md tells the same for authors of stages in other
// languages.
//
// It must not know of HTTP, S3, Raft or the control plane: a stage sees local
// files only. The agent fetches inputs before the start and uploads outputs
// after the end.
package contract
