package launcher

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const stateZombie = 5 // SZOMB of sys/proc.h

// startTime returns when a process was started, from the kernel's process
// table. A zombie has ended: it is an error.
func startTime(pid int) (string, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return "", err
	}
	if info.Proc.P_pid != int32(pid) || info.Proc.P_stat == stateZombie {
		return "", os.ErrProcessDone
	}
	t := info.Proc.P_starttime
	return fmt.Sprintf("%d.%06d", t.Sec, t.Usec), nil
}

// bootID changes with every boot of the machine.
func bootID() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
}

func oomKills() int64 { return 0 }

// childAttributes put the command into its own group. macOS has no parent-death
// signal: there a killed shim is noticed by the agent, which sweeps.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func protectShim() {}

func soften(pid int, spec Spec) {
	if spec.Niceness > 0 {
		_ = unix.Setpriority(unix.PRIO_PGRP, pid, spec.Niceness)
	}
}

// awaitExit polls: x/sys has no waitid for macOS, and reaping must come last.
func awaitExit(pid int) {
	for {
		if _, err := startTime(pid); err != nil {
			return
		}
		unix.Select(0, nil, nil, nil, &unix.Timeval{Usec: 20_000})
	}
}

// sweep ends the command's group when its leader is still the one that was
// started.
func sweep(in localHandle) {
	if in.BootID != bootID() {
		return
	}
	c, err := readClaim(in.Dir)
	if err != nil || c.Child == 0 {
		return
	}
	if start, err := startTime(c.Child); err == nil && start == c.ChildStart {
		_ = unix.Kill(-c.Child, unix.SIGKILL)
	}
}
