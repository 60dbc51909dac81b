// Package state is the replicated state machine of the mesh: jobs, stages,
// attempts, datasets, models, nodes, tokens, dead letters and servers, as rows
// of an in-memory database with watches (go-memdb).
//
// It is pure. Apply is a function of the state and the command: it reads no
// clock, draws no random numbers, does no I/O, has no side effects and ranges
// over no map with effects; every time, id and random value stands in the
// command. A row that was read is never changed; writers copy. It knows neither
// Raft nor HTTP nor agents: consensus feeds it committed entries, and everybody
// else reads.
package state
