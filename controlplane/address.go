package controlplane

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// advertised is the host:port under which others reach this server, given where
// it listens. An address that others cannot use is refused while it is cheap: a
// cluster whose servers know each other as 127.0.0.1 looks healthy until it
// needs them.
func advertised(ctx context.Context, given, listening string, join []string) (string, error) {
	host, port, err := net.SplitHostPort(listening)
	if err != nil {
		return "", fmt.Errorf("controlplane: %q: %w", listening, err)
	}
	if given != "" {
		if h, p, err := net.SplitHostPort(given); err == nil {
			host, port = h, p
		} else {
			host = strings.Trim(given, "[]")
		}
	}
	ip, isIP := addressOf(ctx, host)
	remote := ""
	for _, address := range join {
		peer := hostOf(address)
		if p, ok := addressOf(ctx, peer); ok && !p.IsLoopback() {
			remote = peer
		}
	}
	switch {
	case isIP && ip.IsUnspecified() && len(join) > 0:
		return "", fmt.Errorf("controlplane: other servers cannot reach %s: say with --advertise which address of this host they are to use", host)
	case isIP && ip.IsLoopback() && remote != "":
		return "", fmt.Errorf("controlplane: the server at %s would be told to find this one at the loopback address %s: listen on an address that it reaches (--http-addr), or name one with --advertise", remote, host)
	case isIP && ip.IsUnspecified():
		host = "127.0.0.1" // alone: it is its own only peer
	}
	return net.JoinHostPort(host, port), nil
}

// onLoopback says whether only this machine can reach an address to listen on.
func onLoopback(address string) bool {
	host := hostOf(address)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// hostOf is the host of HOST:PORT or of a URL.
func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Hostname()
	}
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	return address
}

// addressOf resolves a host as far as it can be told in a moment.
func addressOf(ctx context.Context, host string) (netip.Addr, bool) {
	if host == "" {
		return netip.IPv6Unspecified(), true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap(), true
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(list) == 0 {
		return netip.Addr{}, false
	}
	return list[0].Unmap(), true
}
