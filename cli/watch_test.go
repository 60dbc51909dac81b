package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var refused = &url.Error{Op: "Get", URL: "http://mesh.test/v1/jobs", Err: syscall.ECONNREFUSED}

// safeBuffer may be read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func fast(out *safeBuffer) cli.WatchOptions {
	return cli.WatchOptions{Out: out, Poll: 2 * time.Millisecond, Now: func() time.Time { return noon }}
}

func TestWatchEndsWithTheJobAsItEnded(t *testing.T) {
	m := demoMesh()
	m.onJob = func(n int, j *api.JobDetail) error { // running at first
		if n < 4 {
			j.State = api.JobRunning
		}
		return nil
	}
	var out safeBuffer
	job, err := cli.Watch(t.Context(), m, jobID, fast(&out))
	if err != nil || job.State != api.JobSucceeded {
		t.Fatalf("%v, %v", job.State, err)
	}
	if got := out.String(); !strings.Contains(got, "120/120 steps") || !strings.HasSuffix(got, "succeeded after 1m52s\n") {
		t.Errorf("got:\n%s", got)
	}
}

func TestWatchWaitsForServersThatGoAway(t *testing.T) {
	m := demoMesh()
	m.hold = make(chan struct{})
	m.onJob = func(n int, j *api.JobDetail) error {
		switch {
		case n > 1 && n < 5:
			return refused
		case n < 8:
			j.State = api.JobRunning
		case n == 8:
			close(m.hold)
		}
		return nil
	}
	var out safeBuffer
	job, err := cli.Watch(t.Context(), m, jobID, fast(&out))
	if err != nil || job.State != api.JobSucceeded {
		t.Fatalf("%v, %v", job.State, err)
	}
	if got := out.String(); strings.Count(got, "no server answers at http://mesh.test; trying again") != 1 || strings.Count(got, "the server answers again") != 1 {
		t.Errorf("got:\n%s", got)
	}
}

func TestWatchGivesUpWhereTheServerRefuses(t *testing.T) {
	m := demoMesh()
	m.hold = make(chan struct{})
	m.onJob = func(n int, j *api.JobDetail) error {
		if n > 2 {
			return &api.Problem{Title: "unauthorized", Status: 401}
		}
		j.State = api.JobRunning
		return nil
	}
	var out safeBuffer
	_, err := cli.Watch(t.Context(), m, jobID, fast(&out))
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != 401 {
		t.Errorf("got %v", err)
	}
}

func TestAJobThatIsResumedWhileWatchedIsWatchedOn(t *testing.T) {
	m := demoMesh()
	m.hold = make(chan struct{})
	m.onJob = func(n int, j *api.JobDetail) error {
		switch {
		case n < 3:
			j.State = api.JobFailed // all its events are not here yet
		case n < 8:
			j.State = api.JobRunning
		case n == 8:
			close(m.hold)
		}
		return nil
	}
	var out safeBuffer
	if job, err := cli.Watch(t.Context(), m, jobID, fast(&out)); err != nil || job.State != api.JobSucceeded {
		t.Errorf("%v, %v", job.State, err)
	}
}

func TestInterruptLeavesTheJobAlone(t *testing.T) {
	m := demoMesh()
	m.hold = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	m.onJob = func(n int, j *api.JobDetail) error {
		j.State = api.JobRunning
		if n == 2 {
			cancel()
		}
		return nil
	}
	r := cmdline{t: t, mesh: m, ctx: ctx}.run("job", "watch", jobID)
	if r.code != cli.ExitInterrupted || !strings.Contains(r.err, "The job goes on. Come back with: tunemesh job watch "+jobID) || m.cancelled != "" {
		t.Errorf("exit code %d, %q", r.code, r.err)
	}
}

func TestWatchInATerminalDrawsInPlace(t *testing.T) {
	m := demoMesh()
	m.hold = make(chan struct{})
	m.onJob = func(n int, j *api.JobDetail) error {
		if n < 3 {
			j.State = api.JobRunning
		} else if n == 3 {
			time.AfterFunc(300*time.Millisecond, func() { close(m.hold) }) // two frames at least
		}
		return nil
	}
	var out safeBuffer
	o := fast(&out)
	o.Poll = 20 * time.Millisecond
	o.Screen = &cli.Screen{Terminal: true, Width: 80, Height: 24}
	if _, err := cli.Watch(t.Context(), m, jobID, o); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	if !strings.Contains(got, "\x1b[A") || !strings.HasSuffix(got, "\x1b[?25h") {
		t.Errorf("the view is not drawn in place, or the cursor is lost: %q", got)
	}
	s := screen(t, got, 80)
	if n := strings.Count(s, "job "+jobID); n != 1 {
		t.Errorf("the headline is there %d times on the screen:\n%s", n, s)
	}
	narrow(t, "live view", s, 80)
}

// screen plays the sequences that the live view uses and returns what remains.
func screen(t *testing.T, out string, width int) string {
	t.Helper()
	rows, at := []string{""}, 0
	for len(out) > 0 {
		switch {
		case strings.HasPrefix(out, "\x1b[A"):
			at, out = at-1, out[3:]
			if at < 0 {
				t.Fatal("the cursor leaves the screen")
			}
		case strings.HasPrefix(out, "\x1b[J"):
			rows, out = append(rows[:at:at], ""), out[3:]
		case strings.HasPrefix(out, "\x1b[?25"):
			out = out[6:]
		case out[0] == '\r':
			out = out[1:]
		default:
			line, rest, _ := strings.Cut(out, "\x1b[K\n")
			if strings.ContainsAny(line, "\x1b\n") {
				t.Fatalf("unexpected sequence in %q", line)
			}
			rows[at] = line
			at, out = at+1, rest
			if at == len(rows) {
				rows = append(rows, "")
			}
		}
	}
	return strings.Join(rows, "\n")
}

func TestWatchAsJSON(t *testing.T) {
	r := cmdline{t: t, mesh: demoMesh()}.run("job", "watch", jobID, "--json")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	var last struct{ Job api.JobDetail }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Job.State != api.JobSucceeded {
		t.Errorf("the last line is %q (%v)", lines[len(lines)-1], err)
	}
	if len(lines) != len(demoEvents())+1 || r.code != 0 {
		t.Errorf("%d lines, exit code %d", len(lines), r.code)
	}
}

func TestSubmitAndWatch(t *testing.T) {
	for id, want := range map[string]int{jobID: 0, failedID: cli.ExitJobFailed} {
		m := demoMesh()
		for i := range m.jobs {
			if m.jobs[i].ID == id {
				m.jobs[i].ID = jobID // the id that the fake gives to what is submitted
			} else {
				m.jobs[i].ID = "other"
			}
		}
		if r := (cmdline{t: t, mesh: m}).run("job", "submit", "--dataset", someDataset, "--watch"); r.code != want {
			t.Errorf("exit code %d, want %d", r.code, want)
		}
	}
}

func TestLogs(t *testing.T) {
	run := func(args ...string) []string {
		r := cmdline{t: t, mesh: demoMesh()}.run(append([]string{"job", "logs", jobID}, args...)...)
		if r.code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, r.code, r.err)
		}
		return strings.Split(strings.TrimSpace(r.out), "\n")
	}
	for _, c := range []struct {
		args []string
		want int
	}{{nil, 18}, {[]string{"-f"}, 18}, {[]string{"--stage", "training"}, 16}, {[]string{"--level", "info"}, 6}, {[]string{"--level", "warn"}, 1}, {[]string{"--tail", "3"}, 3}, {[]string{"--tail", "3", "--json"}, 3}} {
		if got := run(c.args...); len(got) != c.want {
			t.Errorf("%v: %d lines, want %d", c.args, len(got), c.want)
		}
	}
}
