//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace: a host as far as the network goes.
type namespace struct {
	name string // as `ip netns` knows it
	ip   string
	fd   int
}

const namespacePrefix = "tmchaos-"

// newNamespace makes a namespace whose name carries this process's id, so that
// what a killed test left can be told from what is in use, and the mesh's, of which
// a process may have several.
func newNamespace(mesh, host, ip string) (*namespace, error) {
	n := &namespace{name: fmt.Sprintf("%s%d-%s-%s", namespacePrefix, os.Getpid(), mesh, host), ip: ip}
	if err := command("ip", "netns", "add", n.name); err != nil {
		return nil, err
	}
	fd, err := unix.Open(filepath.Join("/run/netns", n.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open namespace %s: %w", n.name, err), command("ip", "netns", "del", n.name))
	}
	n.fd = fd
	return n, command("ip", "-n", n.name, "link", "set", "lo", "up")
}

// close ends what runs in the namespace and removes it.
func (n *namespace) close() error {
	killNamespace(n.name)
	return errors.Join(unix.Close(n.fd), command("ip", "netns", "del", n.name))
}

// do runs f on a thread that is inside the namespace. Sockets that f opens and
// processes that it starts belong there.
func (n *namespace) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine and takes the
		// namespace along.
		runtime.LockOSThread()
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", n.name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// pids lists the processes inside.
func (n *namespace) pids() []int { return namespacePIDs(n.name) }

func namespacePIDs(name string) []int {
	out, err := exec.Command("ip", "netns", "pids", name).Output()
	if err != nil {
		return nil
	}
	var pids []int
	for _, word := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(word); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killNamespace ends every process of a namespace that a test made, one by one.
func killNamespace(name string) {
	for range 20 {
		pids := namespacePIDs(name)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
}

// sweepNamespaces removes what tests left that were killed themselves.
func sweepNamespaces() {
	entries, _ := os.ReadDir("/run/netns")
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), namespacePrefix)
		if !ours {
			continue
		}
		id, _, _ := strings.Cut(rest, "-")
		if pid, err := strconv.Atoi(id); err == nil && syscall.Kill(pid, 0) == nil {
			continue
		}
		killNamespace(e.Name())
		_ = command("ip", "netns", "del", e.Name())
	}
}

// whyNot says why namespaces cannot be made here; empty if they can.
var whyNot = sync.OnceValue(func() string {
	if os.Getuid() != 0 {
		return "needs root for network namespaces"
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return "needs the program ip (iproute2)"
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		return "needs the program redis-server"
	}
	n, err := newNamespace("0", "probe", "10.77.0.250")
	if err != nil {
		return "cannot make network namespaces: " + err.Error()
	}
	defer func() { _ = n.close() }()
	f, err := n.openTAP(250)
	if err != nil {
		return "cannot make TAP devices: " + err.Error()
	}
	_ = f.Close()
	return ""
})

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// macOf is the hardware address of the host with a number.
func macOf(number int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0x74, 0x6d, 0, 0, byte(number)}
}
