package mesh

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Config describes a member.
type Config struct {
	// Name is unique in the mesh: the node id.
	Name string
	// BindAddr and BindPort are where it listens, UDP and TCP; port 0 picks one.
	BindAddr string
	BindPort int
	// AdvertiseAddr is told to others; BindAddr by default.
	AdvertiseAddr string
	// Key encrypts (16, 24 or 32 bytes, AES-GCM); empty: plain text.
	Key []byte
	// Label keeps meshes apart that share a network.
	Label string
	// Join are addresses of other members, host:port; Peers, if set, tells more of
	// them whenever it is asked. Others are met through them, and joined again
	// while they are out of sight.
	Join  []string
	Peers func() []string
	// Meta is told with every membership message; NodeHash and Digest are filled
	// in.
	Meta Meta
	// Document is the full capability document, spread by push/pull; MaxDocument
	// bytes at most.
	Document []byte

	// JoinJitter is the longest random pause before the first join; 0 for none.
	JoinJitter time.Duration
	// RejoinInterval is how often peers that are not seen are joined again; 3 s
	// by default, so that a partition that has healed is whole within 10 s, with the
	// time that a try at an address without answer takes (2 s each).
	// memberlist never heals a partition by itself (memberlist#222).
	RejoinInterval time.Duration
	// SyncInterval is how often the full state is exchanged with one other
	// member, so how long a document may be under way; 30 s by default, more in
	// a large mesh.
	SyncInterval time.Duration
	Logger       *slog.Logger

	// transport carries packets and streams in place of UDP and TCP: a network on
	// simulated time, in tests.
	transport memberlist.Transport
}

// joinTimeout bounds a connection to one peer.
const joinTimeout = 2 * time.Second

// MaxDocument bounds a member's document in bytes.
const MaxDocument = 64 << 10

// Member is somebody in the mesh.
type Member struct {
	Name string
	Addr string // host:port of gossip
	Meta Meta
	// Document is the member's capability document, nil until it has arrived.
	Document []byte
}

// Event tells that a member came, changed or went.
type Event struct {
	Name string
	Gone bool
}

// Mesh is one member's view.
type Mesh struct {
	config Config
	list   *memberlist.Memberlist
	state  *inventory
	keys   *memberlist.Keyring // nil: plain text
	events chan Event

	cancel context.CancelFunc
	loop   sync.WaitGroup
	once   sync.Once

	closing atomic.Bool
}

// Open starts a member and joins the others in the background.
func Open(c Config) (*Mesh, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.RejoinInterval == 0 {
		c.RejoinInterval = 3 * time.Second
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	hash, digest := sha256.Sum256([]byte(c.Name)), sha256.Sum256(c.Document)
	copy(c.Meta.NodeHash[:], hash[:])
	copy(c.Meta.Digest[:], digest[:])

	m := &Mesh{config: c, events: make(chan Event, 256)}
	m.state = newInventory(c.Name, c.Meta.Encode(), c.Document, m.events)
	mc := memberlist.DefaultLANConfig()
	mc.Name = c.Name
	mc.BindAddr, mc.BindPort = c.BindAddr, c.BindPort
	if c.AdvertiseAddr != "" {
		mc.AdvertiseAddr = c.AdvertiseAddr
	}
	mc.AdvertisePort = c.BindPort
	if len(c.Key) > 0 {
		ring, err := memberlist.NewKeyring(nil, c.Key)
		if err != nil {
			return nil, fmt.Errorf("mesh: %w", err)
		}
		m.keys = ring
	}
	mc.Keyring, mc.Label, mc.Transport = m.keys, c.Label, c.transport
	mc.Delegate, mc.Events = m.state, m.state
	// One silent address must not hold up the others for the default 10 s.
	mc.TCPTimeout = joinTimeout
	// Names are ids of keys: who has a dead member's name is that member, at another
	// address. Without it nobody takes it in until the dead one is forgotten (30 s).
	mc.DeadNodeReclaimTime = time.Second
	// LZW of small packets costs 0.23 instead of 0.06 cores at 200 members.
	mc.EnableCompression = false
	if c.SyncInterval > 0 {
		mc.PushPullInterval = c.SyncInterval
	}
	mc.Logger = bridge(c.Logger, &m.closing)
	list, err := memberlist.Create(mc)
	if err != nil {
		return nil, fmt.Errorf("mesh: listen for gossip on %s: %w", net.JoinHostPort(c.BindAddr, strconv.Itoa(c.BindPort)), err)
	}
	m.list = list
	life, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.loop.Go(func() { m.keepJoined(life) })
	return m, nil
}

func (c Config) validate() error {
	if c.Name == "" {
		return errors.New("mesh: member has no name")
	}
	switch len(c.Key) {
	case 0, 16, 24, 32:
	default:
		return fmt.Errorf("mesh: key is %d bytes long, want 16, 24 or 32", len(c.Key))
	}
	if len(c.Document) > MaxDocument {
		return fmt.Errorf("mesh: document is %d bytes long, at most %d are allowed", len(c.Document), MaxDocument)
	}
	advertised := c.AdvertiseAddr
	if advertised == "" {
		advertised = c.BindAddr
	}
	ip := net.ParseIP(advertised)
	if ip == nil || !ip.IsLoopback() {
		return nil
	}
	// A loopback address told to other machines would upset their view of us.
	for _, peer := range c.Join {
		host, _, err := net.SplitHostPort(peer)
		if err != nil {
			return fmt.Errorf("mesh: peer %q: want host:port: %w", peer, err)
		}
		if p := net.ParseIP(host); p != nil && !p.IsLoopback() {
			return fmt.Errorf("mesh: would tell %s the loopback address %s: bind or advertise an address that it reaches", peer, advertised)
		}
	}
	return nil
}

// keepJoined joins the known peers now and whenever one is out of sight.
func (m *Mesh) keepJoined(ctx context.Context) {
	wait := time.Duration(0)
	if m.config.JoinJitter > 0 {
		wait = rand.N(m.config.JoinJitter)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		var joining sync.WaitGroup
		for _, peer := range append(m.missing(), m.another()...) {
			joining.Go(func() { // beside each other: an address without answer takes its time
				if _, err := m.list.Join([]string{peer}); err != nil {
					m.config.Logger.Debug("a peer cannot be joined", "peer", peer, "err", err)
				}
			})
		}
		joining.Wait()
		// Some spread, so that a healed partition is not stormed.
		timer.Reset(m.config.RejoinInterval + rand.N(m.config.RejoinInterval/4+1))
	}
}

// Bounds of the peers that are joined in one round. One that answers tells of all
// the others in its part of the mesh.
const (
	maxKnown = 5
	maxLost  = 3
)

// missing returns known peers that are no members at the moment: of those that
// were given or that Peers tells, and of those that were seen and did not say
// goodbye, a random few each.
func (m *Mesh) missing() []string {
	var seen []string
	for _, n := range m.state.inSight() {
		seen = append(seen, n.address)
	}
	known := slices.Clone(m.config.Join)
	if m.config.Peers != nil {
		known = append(known, m.config.Peers()...)
	}
	pick := func(from []string, most int) (out []string) {
		for _, i := range rand.Perm(len(from)) {
			if len(out) < most && !slices.Contains(seen, from[i]) {
				out, seen = append(out, from[i]), append(seen, from[i])
			}
		}
		return out
	}
	return append(pick(known, maxKnown), pick(m.state.lost(), maxLost)...)
}

// What is done beside gossip after somebody came into sight. Gossip tells it to
// each with a probability only: of 800 times that seven members met all at once,
// four were incomplete until memberlist's own exchange, up to 43 s later.
const (
	// settleFor is how long after it full states are exchanged.
	settleFor = 15 * time.Second
	// settling is about how many members do so in a round, however many there are.
	settling = 32
)

// another returns a random member in sight to exchange the full state with, while
// the membership grows; else none.
func (m *Mesh) another() []string {
	if time.Since(m.state.grown()) > settleFor {
		return nil
	}
	members := m.state.inSight()
	delete(members, m.config.Name)
	if len(members) > settling && rand.N(len(members)) >= settling {
		return nil
	}
	for _, other := range members { // in no order: any will do
		return []string{other.address}
	}
	return nil
}

// SetKeys changes the keys of a member that encrypts: the first is sent with, all
// are taken. To change the mesh's key give all members the old and the new one,
// then the new and the old one, then the new one alone; who misses a step is deaf
// until it has the keys of the others.
func (m *Mesh) SetKeys(keys [][]byte) error {
	if m.keys == nil || len(keys) == 0 {
		return errors.New("mesh: keys cannot be changed between some and none")
	}
	for _, key := range keys {
		if err := m.keys.AddKey(key); err != nil {
			return fmt.Errorf("mesh: add a key: %w", err)
		}
	}
	if err := m.keys.UseKey(keys[0]); err != nil {
		return fmt.Errorf("mesh: use a key: %w", err)
	}
	for _, key := range m.keys.GetKeys() {
		if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
			if err := m.keys.RemoveKey(key); err != nil {
				return fmt.Errorf("mesh: remove a key: %w", err)
			}
		}
	}
	return nil
}

// Addr is where this member is reached, host:port.
func (m *Mesh) Addr() string { return m.list.LocalNode().Address() }

// Members returns who is in sight, this member included, by name.
func (m *Mesh) Members() []Member {
	var out []Member
	for name, n := range m.state.inSight() {
		meta, err := DecodeMeta(n.meta)
		if err != nil {
			m.config.Logger.Debug("member without a readable meta", "node", name, "err", err)
		}
		out = append(out, Member{Name: name, Addr: n.address, Meta: meta, Document: m.state.document(name, meta.Digest)})
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Events tells changes of the membership. It is a hint: when nobody reads, the
// newest are dropped.
func (m *Mesh) Events() <-chan Event { return m.events }

// Close says goodbye to the others and stops.
func (m *Mesh) Close() error {
	var err error
	m.once.Do(func() {
		m.closing.Store(true)
		m.cancel()
		m.loop.Wait()
		if m.list.NumMembers() > 1 {
			// Nobody may hear it; then the others find out by themselves.
			if leave := m.list.Leave(time.Second); leave != nil {
				m.config.Logger.Debug("left without goodbye", "err", leave)
			}
		}
		if shut := m.list.Shutdown(); shut != nil {
			err = fmt.Errorf("mesh: shut down: %w", shut)
		}
	})
	return err
}
