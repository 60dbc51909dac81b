package simulation

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// segment is what is written at once, or how a stream ends.
type segment struct {
	data []byte
	err  error // io.EOF or a reset
	at   time.Time
}

// end is one side of a connection: a net.Conn. The network's mu guards it.
type end struct {
	net     *network
	process *process
	peer    *end
	id      uint64
	from    *link // of what comes in
	local   string
	remote  string

	incoming []segment
	newest   time.Time // when the last incoming segment arrives
	broken   error     // all calls fail
	closed   bool
	silent   bool // its machine is gone and says nothing
	readBy   time.Time
	writeBy  time.Time
	changed  chan struct{} // closed at every change
}

func (n *network) connectLocked(from, to *process, address string) (near, far *end) {
	near = &end{net: n, process: from, local: from.host.ip + ":0", remote: address, changed: make(chan struct{})}
	far = &end{net: n, process: to, local: address, remote: near.local, changed: make(chan struct{})}
	near.peer, far.peer = far, near
	near.from, far.from = n.linkLocked(to.host.name, from.host.name), n.linkLocked(from.host.name, to.host.name)
	near.id, far.id = n.nextID+1, n.nextID+2
	n.nextID += 2
	n.conns[near], n.conns[far] = struct{}{}, struct{}{}
	return near, far
}

func (e *end) stirLocked() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// failLocked breaks this side at once.
func (e *end) failLocked(err error) {
	if e.broken == nil {
		e.broken = err
		e.stirLocked()
	}
}

// pushLocked sends a segment on its way to this side.
func (e *end) pushLocked(s segment) {
	if e.broken != nil {
		return
	}
	s.at = time.Now().Add(e.net.delayLocked(e.from))
	if s.at.Before(e.newest) {
		s.at = e.newest // in order
	}
	e.newest = s.at
	e.incoming = append(e.incoming, s)
	e.stirLocked()
}

// Read implements net.Conn.
func (e *end) Read(b []byte) (int, error) {
	n := e.net
	for {
		n.mu.Lock()
		now := time.Now()
		if e.broken != nil {
			defer n.mu.Unlock()
			return 0, e.failure("read", e.broken)
		}
		if !e.readBy.IsZero() && !now.Before(e.readBy) {
			defer n.mu.Unlock()
			return 0, e.failure("read", os.ErrDeadlineExceeded)
		}
		wake := e.readBy
		if len(e.incoming) > 0 && e.from.cuts == 0 {
			s := &e.incoming[0]
			if !now.Before(s.at) {
				defer n.mu.Unlock()
				if s.err != nil {
					if s.err == io.EOF {
						return 0, io.EOF
					}
					e.failLocked(s.err)
					return 0, e.failure("read", s.err)
				}
				count := copy(b, s.data)
				if s.data = s.data[count:]; len(s.data) == 0 {
					e.incoming = e.incoming[1:]
				}
				return count, nil
			}
			if wake.IsZero() || s.at.Before(wake) {
				wake = s.at
			}
		}
		changed := e.changed
		n.mu.Unlock()
		if wake.IsZero() {
			<-changed
			continue
		}
		timer := time.NewTimer(wake.Sub(now))
		select {
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Write implements net.Conn. It never blocks: what is written is the network's.
func (e *end) Write(b []byte) (int, error) {
	n := e.net
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case e.broken != nil:
		return 0, e.failure("write", e.broken)
	case !e.writeBy.IsZero() && !time.Now().Before(e.writeBy):
		return 0, e.failure("write", os.ErrDeadlineExceeded)
	case e.peer.closed && e.from.cuts == 0:
		e.failLocked(syscall.EPIPE)
		return 0, e.failure("write", syscall.EPIPE)
	}
	if len(b) > 0 {
		e.peer.pushLocked(segment{data: append([]byte(nil), b...)})
	}
	return len(b), nil
}

// Close implements net.Conn: what was written still arrives.
func (e *end) Close() error {
	n := e.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	e.closed = true
	if e.broken == nil {
		e.peer.pushLocked(segment{err: io.EOF})
	}
	e.failLocked(net.ErrClosed)
	if e.peer.closed || e.peer.broken != nil {
		delete(n.conns, e)
		delete(n.conns, e.peer)
	}
	return nil
}

func (e *end) failure(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: addr(e.remote), Err: err}
}

// LocalAddr implements net.Conn.
func (e *end) LocalAddr() net.Addr { return addr(e.local) }

// RemoteAddr implements net.Conn.
func (e *end) RemoteAddr() net.Addr { return addr(e.remote) }

// SetDeadline implements net.Conn.
func (e *end) SetDeadline(t time.Time) error {
	return e.set(func() { e.readBy, e.writeBy = t, t })
}

// SetReadDeadline implements net.Conn.
func (e *end) SetReadDeadline(t time.Time) error { return e.set(func() { e.readBy = t }) }

// SetWriteDeadline implements net.Conn.
func (e *end) SetWriteDeadline(t time.Time) error { return e.set(func() { e.writeBy = t }) }

func (e *end) set(change func()) error {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	change()
	e.stirLocked()
	return nil
}
