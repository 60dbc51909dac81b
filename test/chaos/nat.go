//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// behindNAT makes two hosts: a router that is plugged into the switch, and one
// behind it that the others see under the router's address, if it dials out.
// Nobody can open a connection to it. outward are the TCP ports to which it may
// dial, as an office's firewall has it; none given: it may dial anything, as at
// home, and send UDP too.
func (m *mesh) behindNAT(router, inside string, outward ...string) error {
	number := 10 + len(m.hosts)
	mesh := strings.TrimPrefix(filepath.Base(m.dir), "tmchaos-")
	r, err := newNamespace(mesh, router, fmt.Sprintf("10.77.0.%d", number))
	if r != nil {
		m.hosts[router], m.numbers[r] = r, number
	}
	if err == nil {
		err = m.fabric.plug(router, r, number)
	}
	if err != nil {
		return err
	}
	var plugged []*namespace
	for n := range m.numbers {
		plugged = append(plugged, n)
	}
	if err := introduce(plugged, func(n *namespace) int { return m.numbers[n] }); err != nil {
		return err
	}
	lan := fmt.Sprintf("192.168.%d.", number)
	h, err := newNamespace(mesh, inside, lan+"2")
	if h != nil {
		m.hosts[inside] = h
	}
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"link", "add", "lan", "netns", r.name, "type", "veth", "peer", "name", "eth0", "netns", h.name},
		{"-n", r.name, "addr", "add", lan + "1/24", "dev", "lan"},
		{"-n", r.name, "link", "set", "lan", "up"},
		{"-n", h.name, "addr", "add", h.ip + "/24", "dev", "eth0"},
		{"-n", h.name, "link", "set", "eth0", "up"},
		{"-n", h.name, "route", "add", "default", "via", lan + "1"},
	} {
		if err := command("ip", args...); err != nil {
			return err
		}
	}
	return r.do(func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
			return err
		}
		nft := exec.Command("nft", "-f", "-")
		nft.Stdin = strings.NewReader(natRules(outward))
		out, err := nft.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("nft: %w: %s", err, out)
		}
		return err
	})
}

func natRules(outward []string) string {
	only := ""
	if len(outward) > 0 {
		only = "tcp dport { " + strings.Join(outward, ", ") + " }"
	}
	return `table ip nat {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		oifname "eth0" masquerade
	}
}
table ip firewall {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname "lan" oifname "eth0" ` + only + ` accept
	}
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
	}
}
`
}

// sockets runs ss on a host, and returns the fields of each line.
func (n *namespace) sockets(args ...string) (lines [][]string, err error) {
	err = n.do(func() error {
		out, err := exec.Command("ss", append([]string{"-H", "-n"}, args...)...).Output()
		for line := range strings.Lines(string(out)) {
			lines = append(lines, strings.Fields(line))
		}
		return err
	})
	return lines, err
}

// listening tells the TCP ports at which something listens on more than loopback.
func (n *namespace) listening() ([]string, error) {
	lines, err := n.sockets("-l", "-t") // state, two queues, local, peer
	var ports []string
	for _, f := range lines {
		if len(f) < 5 {
			return nil, errors.Join(err, fmt.Errorf("ss prints %q", f))
		}
		if local := f[3]; !strings.HasPrefix(local, "127.") && !strings.HasPrefix(local, "[::1]") {
			ports = append(ports, local[strings.LastIndexByte(local, ':')+1:])
		}
	}
	return ports, err
}

// dialled tells the remote end of each established connection, loopback left out.
func (n *namespace) dialled() ([]string, error) {
	lines, err := n.sockets("-t", "state", "established") // two queues, local, peer
	var remote []string
	for _, f := range lines {
		if len(f) < 4 {
			return nil, errors.Join(err, fmt.Errorf("ss prints %q", f))
		}
		if !strings.HasPrefix(f[3], "127.") {
			remote = append(remote, f[3])
		}
	}
	slices.Sort(remote)
	return remote, err
}

// forget has a router lose what it knows of connections, as one that was switched
// off and on again: what belongs to them is lost without a word from then on.
func (m *mesh) forget(router string) error {
	r := m.hosts[router]
	return errors.Join(
		r.do(func() error {
			return os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_tcp_loose", []byte("0"), 0)
		}),
		// With the address go the translations to it.
		command("ip", "-n", r.name, "addr", "del", r.ip+"/24", "dev", "eth0"),
		command("ip", "-n", r.name, "addr", "add", r.ip+"/24", "dev", "eth0"),
	)
}
