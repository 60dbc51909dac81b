package simulation

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// network carries connections between hosts, each with an address of its own. A
// connection is two ordered streams of segments, as in TCP: a segment that is lost
// comes later, one that meets a cut waits until it is healed, and who waits too
// long hears nothing but its own deadline.
type network struct {
	seed uint64

	mu    sync.Mutex
	hosts map[string]*host
	links map[[2]string]*link
	// changed is closed when a link is cut or healed.
	changed chan struct{}
	conns   map[*end]struct{}
	nextID  uint64
	figures figures
}

// figures say how much a network carried.
type figures struct{ segments, lost, dials, refused int }

// host is a machine's place in the network.
type host struct {
	net  *network
	name string
	ip   string
	// process is the one that runs there now; nil: the machine is down.
	process   *process
	listeners map[string]*listener // by port
}

// process is one life of a program: what it opened ends with it.
type process struct {
	host *host
	dead bool // guarded by the network's mu
	gone chan struct{}
}

// link is one direction between two hosts.
type link struct {
	rand    *rand.Rand
	latency time.Duration
	jitter  time.Duration
	loss    float64
	cuts    int // how many faults cut it
}

func newNetwork(seed uint64) *network {
	return &network{seed: seed, hosts: map[string]*host{}, links: map[[2]string]*link{}, changed: make(chan struct{}), conns: map[*end]struct{}{}}
}

// host makes a place; ip is its address.
func (n *network) host(name, ip string) *host {
	h := &host{net: n, name: name, ip: ip, listeners: map[string]*listener{}}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[ip] = h
	return h
}

// boot starts a process on a host that has none.
func (h *host) boot() *process {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.process = &process{host: h, gone: make(chan struct{})}
	// A machine that is back answers what it does not know with a reset.
	for _, e := range h.net.endsLocked() {
		if e.silent && e.process.host == h {
			e.silent = false
			e.peer.pushLocked(segment{err: syscall.ECONNRESET})
		}
	}
	return h.process
}

// kill ends a process: all that it sends and hears stops at this moment. Its
// peers are reset, unless the machine died with it: then they hear nothing.
func (p *process) kill(machine bool) {
	n := p.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.dead {
		return
	}
	p.dead = true
	close(p.gone)
	if p.host.process == p {
		p.host.process = nil
	}
	for port, l := range p.host.listeners {
		if l.process == p {
			l.closeLocked()
			delete(p.host.listeners, port)
		}
	}
	for _, e := range n.endsLocked() {
		if e.process == p {
			e.failLocked(net.ErrClosed)
			if machine {
				e.silent = true
			} else {
				e.peer.pushLocked(segment{err: syscall.ECONNRESET})
			}
		}
	}
	n.stirLocked()
}

func (p *process) isDead() bool {
	p.host.net.mu.Lock()
	defer p.host.net.mu.Unlock()
	return p.dead
}

// endsLocked are the ends of all connections, oldest first.
func (n *network) endsLocked() []*end {
	return slices.SortedFunc(maps.Keys(n.conns), func(a, b *end) int { return cmp.Compare(a.id, b.id) })
}

func (n *network) linkLocked(from, to string) *link {
	l := n.links[[2]string{from, to}]
	if l == nil {
		var stream uint64
		for _, c := range from + ">" + to {
			stream = stream*131 + uint64(c)
		}
		r := rand.New(rand.NewPCG(n.seed, stream))
		l = &link{rand: r, latency: 200*time.Microsecond + time.Duration(r.Int64N(int64(2*time.Millisecond))), jitter: time.Millisecond}
		n.links[[2]string{from, to}] = l
	}
	return l
}

// eachLink changes the links from some hosts to others, by name.
func (n *network) eachLink(from, to []string, change func(*link)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range from {
		for _, b := range to {
			if a != b {
				change(n.linkLocked(a, b))
			}
		}
	}
	n.stirLocked()
}

// heal makes all links whole.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		l.cuts, l.loss, l.jitter = 0, 0, time.Millisecond
	}
	n.stirLocked()
}

// stirLocked wakes all who wait for a link.
func (n *network) stirLocked() {
	close(n.changed)
	n.changed = make(chan struct{})
	for e := range n.conns {
		e.stirLocked()
	}
}

// reset breaks all connections between two hosts, as a firewall that forgets does.
func (n *network) reset(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.endsLocked() {
		if e.process.host.name == a && e.peer.process.host.name == b {
			e.failLocked(syscall.ECONNRESET)
			e.peer.failLocked(syscall.ECONNRESET)
		}
	}
}

// delayLocked is how long a segment takes: lost ones come with a retransmission.
func (n *network) delayLocked(l *link) time.Duration {
	n.figures.segments++
	d := l.latency + time.Duration(l.rand.Int64N(int64(l.jitter)+1))
	for wait := 200 * time.Millisecond; l.loss > 0 && l.rand.Float64() < l.loss; wait *= 2 {
		n.figures.lost++
		if d += wait; wait > 4*time.Second {
			break
		}
	}
	return d
}

// hop takes as long as a message from a process to a host (a store), or from there
// back; it fails with ctx or where the process dies.
func (p *process) hop(ctx context.Context, other string, back bool) error {
	n := p.host.net
	from, to := p.host.name, other
	if back {
		from, to = to, from
	}
	n.mu.Lock()
	wait := n.delayLocked(n.linkLocked(from, to))
	n.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		n.mu.Lock()
		dead, cut, changed := p.dead, n.linkLocked(from, to).cuts > 0, n.changed
		n.mu.Unlock()
		switch {
		case dead:
			return net.ErrClosed
		case !cut:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// dialTime bounds a dial.
const dialTime = 2 * time.Second

// dial opens a connection to a host's port, within dialTime.
func (p *process) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n := p.host.net
	failed := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: addr(address), Err: err}
	}
	ip, port, err := net.SplitHostPort(address)
	if err != nil {
		return failed(err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	n.mu.Lock()
	n.figures.dials++
	to := n.hosts[ip]
	n.mu.Unlock()
	if to == nil {
		return failed(errors.New("no route to host"))
	}
	if err := p.hop(ctx, to.name, false); err != nil {
		if errors.Is(err, net.ErrClosed) {
			<-ctx.Done() // the program is dead and must not spin
		}
		return failed(os.ErrDeadlineExceeded)
	}
	n.mu.Lock()
	down, l := to.process == nil, to.listeners[port]
	n.mu.Unlock()
	if down { // nobody there to say no
		<-ctx.Done()
		return failed(os.ErrDeadlineExceeded)
	}
	if err := p.hop(ctx, to.name, true); err != nil {
		return failed(os.ErrDeadlineExceeded)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if l == nil || l.closed || p.dead {
		n.figures.refused++
		return failed(syscall.ECONNREFUSED)
	}
	near, far := n.connectLocked(p, l.process, address)
	l.queue = append(l.queue, far)
	l.stirLocked()
	return near, nil
}

// addr is an address HOST:PORT.
type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }

// listener takes the connections to one port.
type listener struct {
	process *process
	address string
	// The network's mu guards these.
	queue   []net.Conn
	closed  bool
	changed chan struct{}
}

func (p *process) listen(port string) *listener {
	n := p.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{process: p, address: net.JoinHostPort(p.host.ip, port), changed: make(chan struct{})}
	p.host.listeners[port] = l
	return l
}

func (l *listener) stirLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *listener) closeLocked() {
	if !l.closed {
		l.closed = true
		l.stirLocked()
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	n := l.process.host.net
	for {
		n.mu.Lock()
		if l.closed {
			n.mu.Unlock()
			return nil, net.ErrClosed
		}
		if len(l.queue) > 0 {
			c := l.queue[0]
			l.queue = l.queue[1:]
			n.mu.Unlock()
			return c, nil
		}
		changed := l.changed
		n.mu.Unlock()
		<-changed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	n := l.process.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	l.closeLocked()
	if _, port, err := net.SplitHostPort(l.address); err == nil && l.process.host.listeners[port] == l {
		delete(l.process.host.listeners, port)
	}
	for _, c := range l.queue {
		c.(*end).failLocked(net.ErrClosed)
		c.(*end).peer.pushLocked(segment{err: syscall.ECONNRESET})
	}
	l.queue = nil
	return nil
}

// Addr implements net.Listener; Raft wants a *net.TCPAddr.
func (l *listener) Addr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", l.address)
	if err != nil {
		return addr(l.address)
	}
	return a
}
