// Package controlplane is one server of the control plane: it assembles raft,
// dispatch, event log, object store, gossip and REST, and owns their life
// cycle. It decides nothing; each decision stands in one of its rooms. It must
// not know of node agents: they meet in api.
package controlplane
