package launcher

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// startTime returns field 22 of /proc/PID/stat, the start in clock ticks since
// boot (proc_pid_stat(5)). A zombie has ended: it is an error.
func startTime(pid int) (string, error) {
	fields, err := statFields(pid)
	if err != nil {
		return "", err
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return "", os.ErrProcessDone
	}
	return fields[19], nil
}

// statFields returns the fields of /proc/PID/stat from the third on (state).
// The second, the name, may hold blanks and parentheses: cut at the last one.
func statFields(pid int) ([]string, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	return parseStat(data)
}

func parseStat(data []byte) ([]string, error) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return nil, errors.New("launcher: /proc/PID/stat has no name")
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 20 {
		return nil, errors.New("launcher: /proc/PID/stat is short")
	}
	return fields, nil
}

// bootID changes with every boot of the machine.
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// oomKills returns how many processes the kernel has killed for want of memory
// since boot (oom_kill in /proc/vmstat), 0 where it does not say.
func oomKills() int64 {
	data, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	return 0
}

// childAttributes put the command into its own group, and have the kernel kill
// it when the shim dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// protectShim makes the shim a late choice of the OOM killer: it is small, and
// without it nobody tells how the command ended. Only root may lower the value.
func protectShim() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-500"), 0)
}

// soften makes the command yield to the agent. Neither may fail a start.
func soften(pid int, spec Spec) {
	if spec.Niceness > 0 {
		_ = unix.Setpriority(unix.PRIO_PGRP, pid, spec.Niceness)
	}
	// It inherited the shim's value, so it is written in any case.
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(strconv.Itoa(spec.OOMScoreAdj)), 0)
}

// awaitExit returns when the process has ended, and leaves it unreaped.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, &unix.Siginfo{}, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// sweep kills what is left of a shim's session. A session's number is its
// leader's pid and may be used again, so a process must also carry the launch's
// directory in its environment.
func sweep(in localHandle) {
	if in.BootID != bootID() {
		return
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	mark := []byte(EnvLaunch + "=" + in.Dir + "\x00")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		start, err := startTime(pid)
		if err != nil {
			continue
		}
		fields, err := statFields(pid)
		if err != nil || fields[3] != strconv.Itoa(in.PID) {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil || !bytes.Contains(env, mark) {
			continue
		}
		if again, err := startTime(pid); err == nil && again == start {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}
