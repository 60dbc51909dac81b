package mesh

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// inventory is what memberlist calls back into: it spreads the documents of all
// members with every push/pull. Nothing here may block.
type inventory struct {
	self   string
	meta   []byte
	events chan<- Event

	mu        sync.Mutex
	documents map[string][]byte // by member
	// seen are the members in sight, this one too. They are copied here when
	// memberlist tells of them, with its lock held: what its Members returns is
	// written to while one reads.
	seen map[string]sight
	// gone are addresses of members that fell out of sight without a goodbye, by
	// name; at most maxGone.
	gone map[string]string
	came time.Time // when somebody came into sight last
}

// sight is what was told of a member last.
type sight struct {
	address string // host:port
	meta    []byte
}

func sightOf(n *memberlist.Node) sight { return sight{n.Address(), bytes.Clone(n.Meta)} }

// maxGone bounds the members that are remembered when they fall out of sight.
const maxGone = 64

var (
	_ memberlist.Delegate      = (*inventory)(nil)
	_ memberlist.EventDelegate = (*inventory)(nil)
)

func newInventory(self string, meta, document []byte, events chan<- Event) *inventory {
	i := &inventory{self: self, meta: meta, events: events, documents: map[string][]byte{}, seen: map[string]sight{}, gone: map[string]string{}}
	if len(document) > 0 {
		i.documents[self] = document
	}
	return i
}

// document returns a member's document if it is the one that its meta names.
func (i *inventory) document(name string, digest [12]byte) []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	doc := i.documents[name]
	sum := sha256.Sum256(doc)
	if doc == nil || !bytes.Equal(sum[:len(digest)], digest[:]) {
		return nil
	}
	return bytes.Clone(doc)
}

// NodeMeta implements memberlist.Delegate.
func (i *inventory) NodeMeta(limit int) []byte { return i.meta[:min(limit, len(i.meta))] }

// NotifyMsg implements memberlist.Delegate; there are no messages of ours.
func (i *inventory) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate; there are no messages of ours.
func (i *inventory) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate: all documents known here, so that
// they also reach those who never talk to their owner.
func (i *inventory) LocalState(bool) []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	data, err := json.Marshal(i.documents)
	if err != nil {
		return nil
	}
	return data
}

// MergeRemoteState implements memberlist.Delegate. Which of two documents is the
// right one is decided when they are read, by the digest in the owner's meta;
// what the other side knows of itself or heard later simply replaces the old.
// Only of members in sight is one kept: it would go round for ever after its
// owner has left. memberlist tells of members first, then of their documents.
func (i *inventory) MergeRemoteState(data []byte, _ bool) {
	var theirs map[string][]byte
	if json.Unmarshal(data, &theirs) != nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for name, doc := range theirs {
		if name != i.self && i.seesLocked(name) && len(doc) > 0 && len(doc) <= MaxDocument {
			i.documents[name] = doc
		}
	}
}

// NotifyJoin implements memberlist.EventDelegate.
func (i *inventory) NotifyJoin(n *memberlist.Node) {
	i.mu.Lock()
	i.seen[n.Name], i.came = sightOf(n), time.Now()
	delete(i.gone, n.Name)
	i.mu.Unlock()
	i.tell(Event{Name: n.Name})
}

// NotifyUpdate implements memberlist.EventDelegate.
func (i *inventory) NotifyUpdate(n *memberlist.Node) {
	i.mu.Lock()
	i.seen[n.Name] = sightOf(n)
	i.mu.Unlock()
	i.tell(Event{Name: n.Name})
}

// NotifyLeave implements memberlist.EventDelegate.
func (i *inventory) NotifyLeave(n *memberlist.Node) {
	i.mu.Lock()
	delete(i.seen, n.Name)
	if n.Name != i.self {
		delete(i.documents, n.Name)
	}
	if n.State != memberlist.StateLeft && n.Name != i.self && len(i.gone) < maxGone {
		i.gone[n.Name] = n.Address()
	}
	i.mu.Unlock()
	i.tell(Event{Name: n.Name, Gone: true})
}

// lost returns where members that fell out of sight were.
func (i *inventory) lost() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := make([]string, 0, len(i.gone))
	for _, address := range i.gone {
		out = append(out, address)
	}
	return out
}

func (i *inventory) seesLocked(name string) bool {
	_, ok := i.seen[name]
	return ok
}

// inSight returns a copy of seen.
func (i *inventory) inSight() map[string]sight {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.seen)
}

// grown is when somebody came into sight last.
func (i *inventory) grown() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.came
}

func (i *inventory) tell(e Event) {
	select {
	case i.events <- e:
	default:
	}
}
