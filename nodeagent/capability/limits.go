package capability

import (
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// limits are what a control group allows; zero means no limit.
type limits struct {
	cpu    float64 // cores
	memory int64   // bytes
}

// cores rounds a quota up: 1.5 cores run two threads better than one.
func (l limits) cores(have int) int {
	if l.cpu <= 0 {
		return have
	}
	return max(1, min(have, int(math.Ceil(l.cpu))))
}

// readLimits reads the limits of this process's control group and of all above
// it, of version 2 and 1, from a file system that holds proc and sys (kernel,
// Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/). Where there is none,
// there is no limit.
func readLimits(root fs.FS) limits {
	var l limits
	data, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return l
	}
	for line := range strings.Lines(string(data)) {
		// hierarchy:controllers:path; version 2 has no controllers.
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		if part[0] == "0" && part[1] == "" {
			l.walk(root, "sys/fs/cgroup", part[2], l.readV2)
			continue
		}
		for controller := range strings.SplitSeq(part[1], ",") {
			switch controller {
			case "cpu":
				for _, mount := range []string{"sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/cpu"} {
					l.walk(root, mount, part[2], l.readCPUV1)
				}
			case "memory":
				l.walk(root, "sys/fs/cgroup/memory", part[2], l.readMemoryV1)
			}
		}
	}
	return l
}

// walk looks at a group and its ancestors. In a container the path is often
// that of the host and absent here; the mount's root is then the group itself.
func (l *limits) walk(root fs.FS, mount, group string, read func(fs.FS, string)) {
	for p := path.Join(mount, path.Clean("/"+group)); ; p = path.Dir(p) {
		read(root, p)
		if p == mount || p == "." || !strings.HasPrefix(p, mount) {
			return
		}
	}
}

func (l *limits) readV2(root fs.FS, dir string) {
	if f := strings.Fields(text(root, dir+"/cpu.max")); len(f) == 2 && f[0] != "max" {
		l.quota(f[0], f[1])
	}
	l.limitMemory(text(root, dir+"/memory.max"))
}

func (l *limits) readCPUV1(root fs.FS, dir string) {
	l.quota(text(root, dir+"/cpu.cfs_quota_us"), text(root, dir+"/cpu.cfs_period_us"))
}

func (l *limits) readMemoryV1(root fs.FS, dir string) {
	l.limitMemory(text(root, dir+"/memory.limit_in_bytes"))
}

func (l *limits) quota(quota, period string) {
	q, err1 := strconv.ParseFloat(quota, 64)
	p, err2 := strconv.ParseFloat(period, 64)
	if err1 != nil || err2 != nil || !(q > 0) || !(p > 0) || math.IsInf(q/p, 0) {
		return
	}
	if cores := q / p; l.cpu == 0 || cores < l.cpu {
		l.cpu = cores
	}
}

// limitMemory takes the smallest. Version 1 says "no limit" as a number near
// 2^63, rounded to a page.
func (l *limits) limitMemory(value string) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n <= 0 || n > 1<<62 {
		return
	}
	if l.memory == 0 || n < l.memory {
		l.memory = n
	}
}

func text(root fs.FS, name string) string {
	data, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
