package state

import "bytes"

// sinceGossipKeys is the protocol version that brought ChangeGossipKey.
const sinceGossipKeys = 4

// gossipKeySize is that of AES-256.
const gossipKeySize = 32

// GossipKeys are the keys of the gossip. What is sent is encrypted with the
// primary one; all are taken. At rest there is no other.
//
//	primary --add--> primary, coming --use--> the coming one is primary, the other going --remove--> primary
type GossipKeys struct {
	Primary []byte `json:"primary"`
	Coming  []byte `json:"coming,omitempty"`
	Going   []byte `json:"going,omitempty"`
}

// All are the keys, the primary first.
func (k GossipKeys) All() [][]byte {
	var out [][]byte
	for _, key := range [][]byte{k.Primary, k.Coming, k.Going} {
		if len(key) > 0 {
			out = append(out, key)
		}
	}
	return out
}

// KeyStep is a step of the exchange of the gossip's key.
type KeyStep string

// Steps, in their order. Between two of them every member must have heard of the
// one before, or it is deaf until it has.
const (
	AddKey    KeyStep = "add"
	UseKey    KeyStep = "use"
	RemoveKey KeyStep = "remove"
)

// ChangeGossipKey does one step with a key: adds one that all then take, lets all
// send with it, or removes the one before. A repeat changes nothing; a step out
// of order is a conflict.
type ChangeGossipKey struct {
	Step KeyStep `json:"step"`
	Key  []byte  `json:"key"`
}

// Kind is the command's name in the log.
func (ChangeGossipKey) Kind() string { return "change_gossip_key" }

func (c ChangeGossipKey) apply(m *mutation) (Result, error) {
	if len(c.Key) != gossipKeySize {
		return Result{}, invalid("key", "is %d bytes long, want %d", len(c.Key), gossipKeySize)
	}
	row := m.cluster()
	now := row.gossipKeys()
	if len(now.Primary) == 0 {
		return Result{}, conflict("the cluster has no keyring yet")
	}
	next := now
	switch c.Step {
	case AddKey:
		if bytes.Equal(now.Coming, c.Key) || bytes.Equal(now.Primary, c.Key) {
			return Result{}, nil
		}
		if len(now.Coming) > 0 || len(now.Going) > 0 {
			return Result{}, conflict("the gossip's key is being exchanged already")
		}
		next.Coming = c.Key
	case UseKey:
		if bytes.Equal(now.Primary, c.Key) {
			return Result{}, nil
		}
		if !bytes.Equal(now.Coming, c.Key) {
			return Result{}, conflict("the key to use was not added before")
		}
		next = GossipKeys{Primary: c.Key, Going: now.Primary}
	case RemoveKey:
		if bytes.Equal(now.Primary, c.Key) || bytes.Equal(now.Coming, c.Key) {
			return Result{}, conflict("the key to remove is in use")
		}
		if !bytes.Equal(now.Going, c.Key) {
			return Result{}, nil
		}
		next.Going = nil
	default:
		return Result{}, invalid("step", "is %q, want add, use or remove", c.Step)
	}
	row.Gossip = &next
	m.put(tableCluster, &row)
	return Result{}, nil
}

// gossipKeys are the keys now: the keyring's until one was exchanged.
func (r *clusterRow) gossipKeys() GossipKeys {
	if r.Gossip != nil {
		return *r.Gossip
	}
	return GossipKeys{Primary: r.Keyring.GossipKey}
}

// GossipKeys returns the gossip's keys; none before there is a keyring.
func (v View) GossipKeys() GossipKeys {
	if r := first[clusterRow](v.begin(), tableCluster, "id", clusterKey); r != nil {
		return r.gossipKeys()
	}
	return GossipKeys{}
}

// CanChangeGossipKey says whether every server of the mesh knows ChangeGossipKey.
func (v View) CanChangeGossipKey() bool { return v.MinVersion() >= sinceGossipKeys }
