package consensus

import (
	"errors"
	"fmt"
)

// Sentinels; compare with errors.Is.
var (
	// ErrNotLeader: nothing was done; ask the leader.
	ErrNotLeader = errors.New("this server does not lead")
	// ErrUnknownOutcome: the command may or may not take effect. Repeat it with
	// the same id, or read.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrOverloaded: nothing was done; try again later.
	ErrOverloaded = errors.New("overloaded")
	// ErrDiskFull: nothing was done, and will not be until space is freed.
	ErrDiskFull = errors.New("disk nearly full")
	// ErrProtocol: nothing was done: some server of the cluster is too old for it.
	ErrProtocol = errors.New("not all servers speak this yet")
	// ErrStalled ends a server whose disk hangs.
	ErrStalled = errors.New("disk stalled")
)

// NotLeaderError is ErrNotLeader with the leader's address where it is known.
type NotLeaderError struct {
	// LeaderHTTP is the leader's base URL, or empty.
	LeaderHTTP string
}

func (e *NotLeaderError) Error() string {
	if e.LeaderHTTP == "" {
		return ErrNotLeader.Error() + ", and there is no leader now: try again in a few seconds"
	}
	return fmt.Sprintf("%s; the leader is %s", ErrNotLeader, e.LeaderHTTP)
}

// Unwrap lets errors.Is find ErrNotLeader.
func (e *NotLeaderError) Unwrap() error { return ErrNotLeader }
