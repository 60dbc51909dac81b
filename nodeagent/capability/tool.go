package capability

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// maxToolOutput bounds what is read of a tool: a machine has few devices.
const maxToolOutput = 1 << 20

// ask runs a tool and returns what it prints. found is false when there is no
// such tool, which is normal and no error.
func ask(ctx context.Context, name string, args ...string) (out []byte, found bool, err error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	stdout, stderr := &bounded{}, &bounded{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Run(); err != nil {
		return nil, true, fmt.Errorf("%s: %w: %s", name, err, lastLine(stderr.String()))
	}
	return stdout.Bytes(), true, nil
}

type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(0, maxToolOutput-b.Len()))])
	return len(p), nil
}

// lastLine is where programs, Python above all, say what was wrong.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	line := s[strings.LastIndexByte(s, '\n')+1:]
	return line[:min(len(line), 200)]
}
