//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// fabric is the switch between the hosts, in user space: each host has a TAP
// device whose other end is here, so that every frame passes one function that
// drops, delays and reorders by the link's state of the moment. A kernel bridge
// with nft and netem could do the same; not every kernel has netem.
type fabric struct {
	mu    sync.RWMutex
	ports map[string]*port
	links map[[2]string]map[string]link // by from and to, then by the fault
	later sync.WaitGroup
	loops sync.WaitGroup
}

// link is what happens to frames of one direction.
type link struct {
	cut           bool
	loss          float64 // of 1
	delay, jitter time.Duration
}

type port struct {
	host string
	mac  [6]byte
	tap  *os.File
}

const frameSize = 9000

func newFabric() *fabric {
	return &fabric{ports: map[string]*port{}, links: map[[2]string]map[string]link{}}
}

// openTAP makes the device eth0 inside the namespace.
func (n *namespace) openTAP(number int) (*os.File, error) {
	var fd int
	err := n.do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		request, err := unix.NewIfreq("eth0")
		if err == nil {
			request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("make a TAP device: %w", err), unix.Close(fd))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "tap-"+n.name)
	for _, args := range [][]string{
		{"link", "set", "eth0", "address", macOf(number).String(), "mtu", strconv.Itoa(frameSize)},
		{"addr", "add", n.ip + "/24", "dev", "eth0"},
		{"link", "set", "eth0", "up"},
	} {
		if err := command("ip", append([]string{"-n", n.name}, args...)...); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

// plug connects a host. number must be the last part of its address.
func (f *fabric) plug(host string, n *namespace, number int) error {
	tap, err := n.openTAP(number)
	if err != nil {
		return err
	}
	p := &port{host: host, mac: [6]byte(macOf(number)), tap: tap}
	f.mu.Lock()
	f.ports[host] = p
	f.mu.Unlock()
	f.loops.Go(func() { f.carry(p) })
	return nil
}

// introduce writes everybody's hardware address into everybody's table, so that
// a partition is silence and no host is slow to find others after it.
func introduce(hosts []*namespace, number func(*namespace) int) error {
	var errs []error
	for _, a := range hosts {
		for _, b := range hosts {
			if a != b {
				errs = append(errs, command("ip", "-n", a.name, "neigh", "replace", b.ip, "lladdr", macOf(number(b)).String(), "dev", "eth0", "nud", "permanent"))
			}
		}
	}
	return errors.Join(errs...)
}

// carry reads one host's frames until its device is closed.
func (f *fabric) carry(from *port) {
	buffer := make([]byte, frameSize+64)
	for {
		n, err := from.tap.Read(buffer)
		if err != nil {
			return
		}
		if n < 14 {
			continue
		}
		to := [6]byte(buffer[:6])
		f.mu.RLock()
		for _, p := range f.ports {
			if p != from && (p.mac == to || to == [6]byte{255, 255, 255, 255, 255, 255}) {
				f.passRLocked(from, p, buffer[:n])
			}
		}
		f.mu.RUnlock()
	}
}

func (f *fabric) passRLocked(from, to *port, frame []byte) {
	var l link
	for _, c := range f.links[[2]string{from.host, to.host}] {
		l.cut = l.cut || c.cut
		l.loss = max(l.loss, c.loss)
		l.delay, l.jitter = l.delay+c.delay, l.jitter+c.jitter
	}
	if l.cut || l.loss > 0 && rand.Float64() < l.loss {
		return
	}
	if l.delay == 0 {
		_, _ = to.tap.Write(frame) // a full queue drops, as a switch does
		return
	}
	kept := append([]byte(nil), frame...)
	wait := l.delay + time.Duration((2*rand.Float64()-1)*float64(l.jitter))
	f.later.Add(1)
	time.AfterFunc(wait, func() {
		defer f.later.Done()
		_, _ = to.tap.Write(kept)
	})
}

// impose lays a condition on every link from one group to another; several lie
// on one another until each is lifted.
func (f *fabric) impose(id string, from, to []string, l link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range from {
		for _, y := range to {
			if x == y {
				continue
			}
			pair := [2]string{x, y}
			if f.links[pair] == nil {
				f.links[pair] = map[string]link{}
			}
			f.links[pair][id] = l
		}
	}
}

// between imposes a condition on both directions.
func (f *fabric) between(id string, a, b []string, l link) {
	f.impose(id, a, b, l)
	f.impose(id, b, a, l)
}

// lift takes a condition away everywhere.
func (f *fabric) lift(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conditions := range f.links {
		delete(conditions, id)
	}
}

// others lists all hosts but some.
func (f *fabric) others(not ...string) []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var out []string
next:
	for host := range f.ports {
		for _, n := range not {
			if host == n {
				continue next
			}
		}
		out = append(out, host)
	}
	return out
}

func (f *fabric) close() {
	f.later.Wait()
	for _, p := range f.ports {
		_ = p.tap.Close()
	}
	f.loops.Wait()
}
