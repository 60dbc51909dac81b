package api

import "time"

// EventArchive is a part of a job's event stream in the object store: the events
// First to Last as zstd-compressed JSON lines. The parts of a job follow each
// other without a hole; a job has more than one if it was resumed, or if lines
// came late.
type EventArchive struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	// Life names the stream that the part was taken from; see events.Position.
	Life string `json:"life,omitempty"`
	// Sources are the numbers of each source's last event up to Last, so that
	// the stream goes on where it ended although nothing else remembers it.
	Sources map[string]uint64 `json:"sources,omitempty"`
	At      time.Time         `json:"at"`
}

// Gap stands for lines of an attempt that are missing: its event has the number
// of the last of them, and counts as all of them.
type Gap struct {
	// From and To are the numbers of the first and the last missing line.
	From  uint64 `json:"from"`
	To    uint64 `json:"to"`
	Bytes int64  `json:"bytes,omitempty" doc:"that the lines had, where known"`
	Why   string `json:"why"`
}

// Count is how many lines are missing.
func (g Gap) Count() uint64 { return g.To - g.From + 1 }
