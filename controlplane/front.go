package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/trust"
)

// switched is a handler that is replaced when the server has found its cluster.
type switched struct{ handler atomic.Pointer[http.Handler] }

func (s *switched) set(h http.Handler) { s.handler.Store(&h) }

// ServeHTTP implements http.Handler.
func (s *switched) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*s.handler.Load()).ServeHTTP(w, r)
}

// onePort takes TLS connections and gives each to Raft or to HTTP, by ALPN.
type onePort struct {
	net.Listener
	identity *trust.Identity
	log      *slog.Logger
	http     *share
	raft     *share
	stop     chan struct{}
	once     sync.Once
	work     sync.WaitGroup
}

// handshakeTime bounds the handshake, so that silent connections do not pile up.
const handshakeTime = 10 * time.Second

// maxHandshakes bounds those under way at once.
const maxHandshakes = 512

func newOnePort(l net.Listener, identity *trust.Identity, log *slog.Logger) *onePort {
	p := &onePort{Listener: l, identity: identity, log: log, stop: make(chan struct{})}
	p.http, p.raft = newShare(p), newShare(p)
	p.work.Go(p.accept)
	return p
}

func (p *onePort) accept() {
	config := p.identity.Serving()
	places := make(chan struct{}, maxHandshakes)
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				_ = p.Close()
				return
			}
			select { // too many open files, say: it may pass
			case <-time.After(50 * time.Millisecond):
				continue
			case <-p.stop:
				return
			}
		}
		select {
		case places <- struct{}{}:
		case <-p.stop:
			_ = c.Close()
			return
		}
		p.work.Go(func() {
			defer func() { <-places }()
			p.greet(tls.Server(c, config))
		})
	}
}

func (p *onePort) greet(c *tls.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() { // a server that closes waits for nobody's handshake
		select {
		case <-p.stop:
			cancel()
		case <-ended:
		}
	}()
	if err := c.HandshakeContext(ctx); err != nil {
		p.log.Debug("a connection did not get through its handshake", "remote", c.RemoteAddr().String(), "err", err)
		_ = c.Close()
		return
	}
	to := p.http
	if c.ConnectionState().NegotiatedProtocol == trust.ProtocolRaft {
		to = p.raft
	}
	select {
	case to.conns <- c:
	case <-to.closed:
		_ = c.Close()
	case <-p.stop:
		_ = c.Close()
	}
}

// Close ends the port and both its shares, and waits.
func (p *onePort) Close() error {
	var err error
	p.once.Do(func() {
		close(p.stop)
		err = ignoreClosed(p.Listener.Close())
	})
	return err
}

func (p *onePort) wait() { p.work.Wait() }

// share is the listener of one protocol.
type share struct {
	port   *onePort
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newShare(p *onePort) *share {
	return &share{port: p, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (s *share) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
	case <-s.port.stop:
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener; the port itself stays open.
func (s *share) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr implements net.Listener.
func (s *share) Addr() net.Addr { return s.port.Listener.Addr() }

// Dial implements consensus.Layer.
func (s *share) Dial(address string, timeout time.Duration) (net.Conn, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: timeout}, Config: s.port.identity.Dialing(trust.ProtocolRaft)}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, "tcp", address)
}
