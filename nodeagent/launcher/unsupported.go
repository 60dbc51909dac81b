//go:build !linux && !darwin

package launcher

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Local is the launcher of this machine; on this platform it refuses to start.
type Local struct{}

// NewLocal returns a launcher that says that it cannot start anything.
func NewLocal(executable string) *Local { return &Local{} }

// Name implements Launcher.
func (l *Local) Name() string { return "local" }

// Start implements Launcher.
func (l *Local) Start(context.Context, Spec) (Handle, error) { return Handle{}, ErrUnsupported }

// Find implements Launcher.
func (l *Local) Find(string) (Handle, error) { return Handle{}, ErrNotStarted }

// Recover implements Launcher.
func (l *Local) Recover(Handle) (Status, error) { return "", ErrUnsupported }

// Wait implements Launcher.
func (l *Local) Wait(context.Context, Handle) (Exit, error) { return Exit{}, ErrUnsupported }

// Stop implements Launcher.
func (l *Local) Stop(Handle, time.Duration) error { return ErrUnsupported }

// Kill implements Launcher.
func (l *Local) Kill(Handle) error { return ErrUnsupported }

// ShimMain is the hidden subcommand "shim"; there is none on this platform.
func ShimMain([]string) int {
	fmt.Fprintln(os.Stderr, ErrUnsupported)
	return 2
}
