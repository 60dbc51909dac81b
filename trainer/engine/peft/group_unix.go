//go:build unix

package peft

import (
	"os"
	"syscall"
)

// ownGroup keeps signals for the stage's group away from the engine: the stage
// says when it ends, and torchrun would end its workers at once.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
