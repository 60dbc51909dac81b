//go:build chaos

package failpoint_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/failpoint"
)

func order(t *testing.T, p failpoint.Point, what string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	t.Setenv(failpoint.Folder, dir)
	if err := os.WriteFile(filepath.Join(dir, string(p)), []byte(what+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func obeyed(dir string, p failpoint.Point) bool {
	_, err := os.Stat(filepath.Join(dir, string(p)+".done"))
	return err == nil
}

func TestAnErrorComesOnce(t *testing.T) {
	dir := order(t, failpoint.ReportUnlogged, "error")
	if err := failpoint.At(failpoint.ReportUnanswered); err != nil {
		t.Errorf("another point: %v", err)
	}
	if obeyed(dir, failpoint.ReportUnlogged) {
		t.Error("obeyed before the point was reached")
	}
	if err := failpoint.At(failpoint.ReportUnlogged); err == nil || !strings.Contains(err.Error(), string(failpoint.ReportUnlogged)) {
		t.Errorf("the error %v does not name the point", err)
	}
	if err := failpoint.At(failpoint.ReportUnlogged); err != nil || !obeyed(dir, failpoint.ReportUnlogged) {
		t.Errorf("a second time: %v", err)
	}
}

func TestTheThirdTimeIsMeant(t *testing.T) {
	order(t, failpoint.EntryUnapplied, "error#3")
	for i := 1; i <= 4; i++ {
		if err := failpoint.At(failpoint.EntryUnapplied); (err != nil) != (i == 3) {
			t.Errorf("crossing %d: %v", i, err)
		}
	}
}

func TestADelayWaits(t *testing.T) {
	order(t, failpoint.TermUnready, "delay:50ms")
	if began := time.Now(); failpoint.At(failpoint.TermUnready) != nil || time.Since(began) < 50*time.Millisecond {
		t.Errorf("waited %s", time.Since(began))
	}
}

func TestACrashIsASIGKILL(t *testing.T) {
	if os.Getenv("FAILPOINT_CHILD") != "" {
		_ = failpoint.At(failpoint.ReportUnsent)
		os.Exit(0)
	}
	dir := order(t, failpoint.ReportUnsent, "crash")
	for _, want := range []string{"signal: killed", "exit status 0"} { // as a service manager starts it again
		cmd := exec.Command(os.Args[0], "-test.run", "TestACrashIsASIGKILL")
		cmd.Env = append(os.Environ(), append(failpoint.Environment(), "FAILPOINT_CHILD=1")...)
		err := cmd.Run()
		var exit *exec.ExitError
		if got := "exit status 0"; err == nil && got != want || err != nil && (!errors.As(err, &exit) || exit.String() != want) {
			t.Errorf("ended with %v, want %s", err, want)
		}
	}
	if !obeyed(dir, failpoint.ReportUnsent) {
		t.Error("no proof that the point was reached")
	}
}
