package state

import (
	"encoding/json"
	"fmt"
)

// MaxEntry is the largest entry in bytes. Raft suggests at most 512 KiB
// (SuggestedMaxDataSize): larger ones delay heartbeats. Half of that leaves
// room for the frame.
const MaxEntry = 256 << 10

// envelope is an entry of the log: {"k":kind,"v":version,"c":command}.
type envelope struct {
	Kind    string          `json:"k"`
	Version int             `json:"v"`
	Command json.RawMessage `json:"c"`
}

// codec decodes one version of a kind; since is the protocol version from which
// on it may be proposed.
type codec struct {
	version, since int
	decode         func(data []byte) (Command, error)
}

func decodeAs[C Command](data []byte) (Command, error) {
	var c C
	err := json.Unmarshal(data, &c)
	return c, err
}

// codecOf returns a kind's codec. A new version of a kind is a new case that
// also accepts the old one.
func codecOf(kind string) (codec, bool) {
	first := func(decode func([]byte) (Command, error)) (codec, bool) {
		return codec{version: 1, since: 1, decode: decode}, true
	}
	second := func(decode func([]byte) (Command, error)) (codec, bool) {
		return codec{version: 1, since: 2, decode: decode}, true
	}
	switch kind {
	case CreateJob{}.Kind():
		return first(decodeAs[CreateJob])
	case CancelJob{}.Kind():
		return first(decodeAs[CancelJob])
	case ResumeJob{}.Kind():
		return first(decodeAs[ResumeJob])
	case PlaceAttempt{}.Kind():
		return first(decodeAs[PlaceAttempt])
	case PlaceAttempts{}.Kind():
		return codec{version: 1, since: sinceBatches, decode: decodeAs[PlaceAttempts]}, true
	case ReportAttempts{}.Kind():
		return first(decodeAs[ReportAttempts])
	case RecordCheckpoint{}.Kind():
		return first(decodeAs[RecordCheckpoint])
	case MarkUnknown{}.Kind():
		return first(decodeAs[MarkUnknown])
	case MarkLost{}.Kind():
		return first(decodeAs[MarkLost])
	case Reconnected{}.Kind():
		return first(decodeAs[Reconnected])
	case MarkPublished{}.Kind():
		return first(decodeAs[MarkPublished])
	case TrimTransitions{}.Kind():
		return first(decodeAs[TrimTransitions])
	case UpsertNode{}.Kind():
		return first(decodeAs[UpsertNode])
	case SetDrain{}.Kind():
		return first(decodeAs[SetDrain])
	case CreateDataset{}.Kind():
		return first(decodeAs[CreateDataset])
	case CreateModel{}.Kind():
		return first(decodeAs[CreateModel])
	case CreateToken{}.Kind():
		return first(decodeAs[CreateToken])
	case RevokeToken{}.Kind():
		return first(decodeAs[RevokeToken])
	case UpsertServer{}.Kind():
		return first(decodeAs[UpsertServer])
	case RemoveServer{}.Kind():
		return first(decodeAs[RemoveServer])
	case SetMinVersion{}.Kind():
		return first(decodeAs[SetMinVersion])
	case SetKeyring{}.Kind():
		return second(decodeAs[SetKeyring])
	case SetClusterSettings{}.Kind():
		return second(decodeAs[SetClusterSettings])
	case CreateJoinToken{}.Kind():
		return second(decodeAs[CreateJoinToken])
	case UseToken{}.Kind():
		return second(decodeAs[UseToken])
	case EnrolNode{}.Kind():
		return second(decodeAs[EnrolNode])
	case ApproveNode{}.Kind():
		return second(decodeAs[ApproveNode])
	case RemoveNode{}.Kind():
		return second(decodeAs[RemoveNode])
	case ChangeGossipKey{}.Kind():
		return codec{version: 1, since: sinceGossipKeys, decode: decodeAs[ChangeGossipKey]}, true
	case ArchiveEvents{}.Kind():
		return second(decodeAs[ArchiveEvents])
	}
	return codec{}, false
}

// Encode returns a command's entry. It refuses, as ErrInvalid, what JSON cannot
// hold (a metric that is not a number) and what is larger than MaxEntry.
func Encode(c Command) ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, invalid("", "%s cannot be recorded: %v", c.Kind(), err)
	}
	known, _ := codecOf(c.Kind())
	entry, err := json.Marshal(envelope{Kind: c.Kind(), Version: known.version, Command: body})
	if err != nil {
		return nil, invalid("", "%s cannot be recorded: %v", c.Kind(), err)
	}
	if len(entry) > MaxEntry {
		return nil, invalid("", "%s needs %d bytes in the log, at most %d are allowed: put large things into artifacts", c.Kind(), len(entry), MaxEntry)
	}
	return entry, nil
}

// Decode reads an entry. Its errors are fatal for a server: see
// ErrUnknownCommand.
func Decode(entry []byte) (Command, error) {
	var e envelope
	if err := json.Unmarshal(entry, &e); err != nil {
		return nil, fmt.Errorf("state: entry is damaged: %w", err)
	}
	known, ok := codecOf(e.Kind)
	if !ok || e.Version < 1 || e.Version > known.version {
		return nil, fmt.Errorf("state: %w: %q version %d; this server is older than the mesh, run the newer program", ErrUnknownCommand, e.Kind, e.Version)
	}
	c, err := known.decode(e.Command)
	if err != nil {
		return nil, fmt.Errorf("state: entry of kind %s is damaged: %w", e.Kind, err)
	}
	return c, nil
}

// Since is the protocol version from which on a command may be proposed.
func Since(c Command) int {
	known, _ := codecOf(c.Kind())
	return known.since
}
