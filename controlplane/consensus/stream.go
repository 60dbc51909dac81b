package consensus

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// stream carries Raft's connections over TCP. Raft's own TCP layer would do but
// for one thing: it leaves open connections behind when it is closed. This one
// also is where TLS comes in.
type stream struct {
	net.Listener
	dial      func(address string, timeout time.Duration) (net.Conn, error)
	advertise net.Addr

	mu     sync.Mutex
	closed bool
	// cut stands in for a network that carries nothing, in tests.
	cut   bool
	conns map[*conn]struct{}
}

func listen(c Config) (*stream, error) {
	s := &stream{conns: map[*conn]struct{}{}}
	var l net.Listener
	var err error
	if c.Layer != nil {
		l, s.dial = c.Layer, c.Layer.Dial
	} else {
		if l, err = net.Listen("tcp", c.Bind); err != nil {
			return nil, fmt.Errorf("consensus: listen on %s: %w", c.Bind, err)
		}
		s.dial = func(address string, timeout time.Duration) (net.Conn, error) {
			return net.DialTimeout("tcp", address, timeout)
		}
	}
	s.Listener, s.advertise = l, l.Addr()
	if c.Advertise != "" {
		if s.advertise, err = net.ResolveTCPAddr("tcp", c.Advertise); err != nil {
			_ = l.Close()
			return nil, fmt.Errorf("consensus: advertised address: %w", err)
		}
	}
	if a, ok := s.advertise.(*net.TCPAddr); !ok || a.IP == nil || a.IP.IsUnspecified() {
		_ = l.Close()
		return nil, fmt.Errorf("consensus: other servers cannot reach %s: say which address to advertise", s.advertise)
	}
	return s, nil
}

// Addr is what others are told.
func (s *stream) Addr() net.Addr { return s.advertise }

// Accept implements net.Listener.
func (s *stream) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if kept, err := s.keep(c); err == nil {
			return kept, nil
		}
		// Closed meanwhile: the next Accept says so.
	}
}

// Dial implements raft.StreamLayer.
func (s *stream) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	c, err := s.dial(string(to), timeout)
	if err != nil {
		return nil, err
	}
	return s.keep(c)
}

// Close ends the listener and every connection.
func (s *stream) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	err := s.Listener.Close()
	s.hangUp()
	return err
}

// hangUp closes every connection.
func (s *stream) hangUp() {
	s.mu.Lock()
	open := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

func (s *stream) keep(c net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.cut {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	kept := &conn{Conn: c, stream: s}
	s.conns[kept] = struct{}{}
	return kept, nil
}

type conn struct {
	net.Conn
	stream *stream
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.stream.mu.Lock()
	delete(c.stream.conns, c)
	c.stream.mu.Unlock()
	return c.Conn.Close()
}
