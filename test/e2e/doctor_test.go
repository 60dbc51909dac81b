package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// checkup is what `tunemesh doctor --json` prints.
type checkup struct {
	Findings []struct{ Check, Status, Detail, Hint string }
	LoRA     []struct {
		Device   string
		Billions float64
	} `json:"lora"`
	Step struct {
		TokensPerSec float64 `json:"tokens_per_sec"`
	}
	OK bool
}

func doctor(t *testing.T, args ...string) (checkup, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), append([]string{"doctor", "--json", "--data-dir", t.TempDir()}, args...)...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var c checkup
	if err := json.Unmarshal(out, &c); err != nil {
		t.Fatalf("doctor says %q: %v", out, err)
	}
	return c, cmd.ProcessState.ExitCode()
}

// A machine with a node's token is examined against a real mesh: the step is
// trained, and an object goes to the mesh's store, comes back and is gone.
func TestDoctorFindsThisMachineFit(t *testing.T) {
	m := newMesh(t)
	token, err := m.client().CreateToken(t.Context(), api.TokenRequest{Role: api.RoleNode, Name: "examined", Uses: 1})
	if err != nil {
		t.Fatal(err)
	}
	server := "http://" + m.addr
	c, code := doctor(t, "--server", server, "--token", token.Token)
	seen := map[string]string{}
	for _, f := range c.Findings {
		seen[f.Check] = f.Status
		if f.Status != "ok" {
			t.Logf("%s: %s (%s)", f.Check, f.Detail, f.Hint)
		}
	}
	for _, check := range []string{"engines", "step", "server", "clock", "store"} {
		if seen[check] != "ok" {
			t.Errorf("%s is %q", check, seen[check])
		}
	}
	if c.Step.TokensPerSec <= 0 || len(c.LoRA) == 0 || c.LoRA[0].Device != "cpu" || c.LoRA[0].Billions <= 0 {
		t.Errorf("%+v", c)
	}
	if c.OK != (code == 0) || seen["disk"] != "failed" && code != 0 {
		t.Errorf("ok is %v, the exit code %d", c.OK, code)
	}
	if err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, "scratch/doctor/") {
			t.Errorf("the probe is still there: %s", path)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}

	c, code = doctor(t, "--server", server, "--token", "tm_nobody_nothing")
	i := len(c.Findings) - 1
	if code != 1 || c.OK || c.Findings[i].Check != "store" || c.Findings[i].Status != "failed" || !strings.Contains(c.Findings[i].Hint, "token create") {
		t.Errorf("a token that nobody gave: exit code %d, %+v", code, c.Findings)
	}
	c, code = doctor(t, "--server", "http://"+freeAddr(t), "--token", token.Token)
	i = len(c.Findings) - 1
	if code != 1 || c.OK || c.Findings[i].Check != "server" || c.Findings[i].Hint == "" {
		t.Errorf("a server that is not there: exit code %d, %+v", code, c.Findings)
	}
}
