package state

const (
	// MaxPlacements is how many attempts one entry may place.
	MaxPlacements = 1 << fenceBits
	// fenceBits of a fence number the placements of one entry. JavaScript and
	// many JSON readers know integers up to 2^53, which leaves 2^45 entries.
	fenceBits = 8
	// sinceBatches is the protocol version that brought PlaceAttempts.
	sinceBatches = 3
)

// PlaceAttempts places several attempts with one entry, each as PlaceAttempt
// does, in their order; what is refused, in Result.Errs, holds no other one up.
//
// A fence is then the Raft index of the entry times MaxPlacements plus the place
// in it. Such fences are unique, and grow with the index and within an entry.
// They are larger than all that were plain indices: this command is proposed
// only when min_version has reached 3, it never sinks, and from then on
// PlaceAttempt counts in the same way.
type PlaceAttempts struct {
	Placements []PlaceAttempt `json:"placements"`
}

// Placed is one attempt that PlaceAttempts made.
type Placed struct {
	Fence  uint64
	Number int
}

// Kind is the command's name in the log.
func (PlaceAttempts) Kind() string { return "place_attempts" }

// CanBatch says whether every server of the mesh knows PlaceAttempts.
func (v View) CanBatch() bool { return v.MinVersion() >= sinceBatches }

func fenceOf(index uint64, place int) uint64 { return index<<fenceBits | uint64(place) }

func (c PlaceAttempts) apply(m *mutation) (Result, error) {
	if len(c.Placements) > MaxPlacements {
		return Result{}, invalid("placements", "has %d items, at most %d are allowed", len(c.Placements), MaxPlacements)
	}
	result := Result{Errs: make([]error, len(c.Placements)), Placed: make([]Placed, len(c.Placements))}
	for i, p := range c.Placements {
		fence := fenceOf(m.index, i)
		number, err := m.place(p, fence)
		if err != nil && !isDomain(err) {
			return Result{}, err
		}
		if result.Errs[i] = err; err == nil {
			result.Placed[i] = Placed{Fence: fence, Number: number}
		}
	}
	return result, nil
}

// minVersion is the protocol version that all servers speak, at this entry.
func (m *mutation) minVersion() int {
	if row := first[metaRow](m.txn, tableMeta, "id", metaMinVersion); row != nil {
		return int(row.Value)
	}
	return 1
}
