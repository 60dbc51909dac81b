package mesh

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// network carries the packets and streams of members in one process, on
// simulated time. A cut is silent, as with a firewall that drops: a packet is
// lost, a dial waits for its whole time.
type network struct {
	mu    sync.Mutex
	hosts map[string]*host // by host:port
	cut   func(from, to string) bool
}

const networkPort = 7702

func newNetwork() *network {
	return &network{hosts: map[string]*host{}, cut: func(string, string) bool { return false }}
}

// split cuts all links for which cut, given two members' names, is true.
func (n *network) split(cut func(from, to string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

func (n *network) heal() { n.split(func(string, string) bool { return false }) }

// host is a member's interface.
type host struct {
	on      *network
	name    string
	ip      net.IP
	packets chan *memberlist.Packet
	streams chan net.Conn
	gone    chan struct{}
}

var _ memberlist.Transport = (*host)(nil)

// plug gives a member an address and an interface.
func (n *network) plug(name string) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &host{on: n, name: name, ip: net.IPv4(10, 0, byte(len(n.hosts)>>8), byte(len(n.hosts)+1)), packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn, 64), gone: make(chan struct{})}
	n.hosts[h.address()] = h
	return h
}

// open starts a member at an address of the network; it is closed with the test.
func (n *network) open(t *testing.T, address string, c Config) *Mesh {
	t.Helper()
	n.mu.Lock()
	h := n.hosts[address]
	n.mu.Unlock()
	c.BindAddr, c.BindPort, c.transport = h.ip.String(), networkPort, h
	m, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// kill takes a member off the network for good.
func (n *network) kill(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for address, h := range n.hosts {
		if h.name == name {
			delete(n.hosts, address)
			n.hosts["gone "+address] = h // its address is not given out again
		}
	}
}

func (h *host) address() string { return fmt.Sprintf("%s:%d", h.ip, networkPort) }

// reach returns the host at an address, nil where it is cut off or gone.
func (h *host) reach(address string) *host {
	h.on.mu.Lock()
	defer h.on.mu.Unlock()
	to := h.on.hosts[address]
	if to == nil || h.on.hosts[h.address()] != h || h.on.cut(h.name, to.name) || h.on.cut(to.name, h.name) {
		return nil
	}
	select {
	case <-to.gone:
		return nil
	default:
		return to
	}
}

func (h *host) FinalAdvertiseAddr(string, int) (net.IP, int, error) { return h.ip, networkPort, nil }

func (h *host) WriteTo(b []byte, address string) (time.Time, error) {
	if to := h.reach(address); to != nil {
		p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: &net.UDPAddr{IP: h.ip, Port: networkPort}, Timestamp: time.Now()}
		select {
		case to.packets <- p:
		default: // its buffer is full
		}
	}
	return time.Now(), nil
}

func (h *host) PacketCh() <-chan *memberlist.Packet { return h.packets }

func (h *host) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	to := h.reach(address)
	if to == nil {
		time.Sleep(timeout)
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	}
	mine, theirs := net.Pipe()
	select {
	case to.streams <- theirs:
		return mine, nil
	case <-to.gone:
	}
	return nil, errors.Join(errors.New("connection reset"), mine.Close(), theirs.Close())
}

func (h *host) StreamCh() <-chan net.Conn { return h.streams }

func (h *host) Shutdown() error {
	close(h.gone)
	return nil
}
