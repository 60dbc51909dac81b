// Package machine says what the machine has left for a stage. It knows no stage and no model.
package machine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v4/mem"
)

// FreeMemory is how much this process may still take without swapping, by the
// machine and by the control groups that it is in, in bytes; 0 if that cannot be found out.
func FreeMemory() int64 {
	var free int64
	if v, err := mem.VirtualMemory(); err == nil {
		free = int64(v.Available)
	}
	if limited, ok := groupMemory("/sys/fs/cgroup", "/proc/self/cgroup"); ok && (free == 0 || limited < free) {
		free = limited
	}
	return free
}

// groupMemory is the least that a control group (version 2) of the process has
// left: its limit less what is used and cannot be taken back.
func groupMemory(root, self string) (free int64, ok bool) {
	data, err := os.ReadFile(self)
	if err != nil {
		return 0, false
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		path, found := strings.CutPrefix(line, "0::")
		if !found {
			continue
		}
		for dir := filepath.Join("/", path); ; dir = filepath.Dir(dir) {
			if left, limited := groupLeft(filepath.Join(root, dir)); limited && (!ok || left < free) {
				free, ok = left, true
			}
			if dir == "/" {
				break
			}
		}
	}
	return free, ok
}

func groupLeft(dir string) (int64, bool) {
	limit, ok := number64(dir, "memory.max")
	if !ok {
		return 0, false // "max", or no such file
	}
	used, _ := number64(dir, "memory.current")
	stat, _ := os.ReadFile(filepath.Join(dir, "memory.stat"))
	for line := range strings.SplitSeq(string(stat), "\n") {
		if v, found := strings.CutPrefix(line, "inactive_file "); found {
			n, _ := strconv.ParseInt(v, 10, 64)
			used -= n
		}
	}
	return max(0, limit-used), true
}

func number64(dir, name string) (int64, bool) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}
