package verify_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine/peft/verify"
)

// broken stands for an interpreter whose torch does not load.
func broken(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho 'ImportError: libcublas.so' >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// What fails on a device is in its report, in the engine's words, and the other checks
// go on.
func TestAFailureIsReportedForEachPrecision(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); errors.Is(err, os.ErrNotExist) {
		t.Skip("the stand-in is a shell script")
	}
	r, err := verify.Run(t.Context(), verify.Options{
		Engine: contract.EngineManifest{Engine: "peft", Python: broken(t), Devices: []string{"cpu"}},
		Shape:  "none", Scratch: t.TempDir(), Say: func(string) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.OK() || len(r.Devices) != 1 || len(r.Devices[0].Checks) != 4 {
		t.Fatalf("%+v", r)
	}
	for _, c := range r.Devices[0].Checks {
		if !strings.Contains(c.Fault, "libcublas.so") {
			t.Errorf("%s: %q", c.Precision, c.Fault)
		}
	}
	var out strings.Builder
	r.Print(&out)
	if strings.Count(out.String(), "FAILS") != 4 || !strings.Contains(out.String(), "libcublas.so") {
		t.Errorf("printed\n%s", out.String())
	}
}

func TestADeviceThatTheEngineHasNotSeenIsRefused(t *testing.T) {
	_, err := verify.Run(t.Context(), verify.Options{
		Engine:  contract.EngineManifest{Engine: "peft", Python: "/x", Devices: []string{"cpu"}},
		Devices: []string{"cuda"}, Shape: "none", Scratch: t.TempDir(), Say: func(string) {},
	})
	if err == nil || !strings.Contains(err.Error(), "saw no cuda") {
		t.Errorf("error %v", err)
	}
}

func TestAReportWithoutADeviceIsNoSuccess(t *testing.T) {
	good := verify.Device{Checks: []verify.Check{{}}, Speed: []verify.Speed{{}}}
	bad := verify.Device{Speed: []verify.Speed{{Fault: "out of memory"}}}
	for _, c := range []struct {
		r    verify.Report
		want bool
	}{{verify.Report{}, false}, {verify.Report{Devices: []verify.Device{good}}, true}, {verify.Report{Devices: []verify.Device{good, bad}}, false}} {
		if c.r.OK() != c.want {
			t.Errorf("%+v: OK is not %v", c.r, c.want)
		}
	}
}
