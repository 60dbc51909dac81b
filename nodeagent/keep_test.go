package nodeagent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/nodeagent"
	"github.com/tunemesh/tunemesh/nodeagent/spool"
)

func keeping(t *testing.T) (*plane, nodeagent.Config) {
	p, c := newPlane(t), config(t.TempDir())
	p.keeps, p.archived = true, map[uint64]bool{}
	c.ProbeInterval = 20 * time.Millisecond
	return p, c
}

// loses makes the control plane forget an attempt's lines after the first n.
func (p *plane) loses(fence uint64, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events[fence] = p.events[fence][:n]
}

func (p *plane) holds(fence uint64, n int) func() bool {
	return func() bool { return len(p.events[fence]) == n }
}

func kept(c nodeagent.Config) []string {
	names, _ := filepath.Glob(filepath.Join(c.Dir, "spools", "*"))
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	return names
}

func TestLinesAreKeptUntilTheyAreArchived(t *testing.T) {
	p, c := keeping(t)
	c.ProbeInterval = time.Millisecond // who looks after kept lines sees them come
	p.assign(builtin(41, `{"lines":30}`))
	end := run(t, p, c)
	if r := p.ended(41); r.Lines != 30 {
		t.Errorf("the report says %d lines, want 30", r.Lines)
	}
	cleared(t, c.Dir, 41)
	// The control plane comes back without them, once in part and once whole.
	for _, n := range []int{12, 0} {
		p.loses(41, n)
		p.until("the lines are there again", p.holds(41, 30))
	}
	// So does an agent that was restarted.
	end()
	p.loses(41, 0)
	run(t, p, c)
	p.until("the lines are there again", p.holds(41, 30))
	if got := p.messages(41); !slices.Equal(got, counted(1, 30)) {
		t.Errorf("events %q", got)
	}
	if got := kept(c); !slices.Equal(got, []string{"41"}) {
		t.Errorf("kept are %v", got)
	}
	p.mu.Lock()
	p.archived[41] = true
	p.mu.Unlock()
	p.until("the archived lines are removed", func() bool { return len(kept(c)) == 0 })
}

func TestARunningAttemptSendsAgainWhatWasLostThoughItPrintsNothing(t *testing.T) {
	p, c := keeping(t)
	flag := filepath.Join(t.TempDir(), "go")
	p.assign(shell(42, `for i in 1 2 3 4 5; do echo "line $i"; done; while [ ! -e `+flag+` ]; do sleep 0.05; done; echo "line 6"; `+succeed))
	run(t, p, c)
	p.until("five lines are there", p.holds(42, 5))
	p.loses(42, 2)
	p.until("the lines are there again", p.holds(42, 5))
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.ended(42)
	if got := p.messages(42); !slices.Equal(got, counted(1, 6)) {
		t.Errorf("events %q", got)
	}
}

// A control plane that is away for longer than the spool has room costs the
// oldest lines, and a gap says exactly which; the numbers of the rest stay.
func TestAFullSpoolLeavesOneExactGap(t *testing.T) {
	p, c := keeping(t)
	c.SpoolBytes = 100_000
	flag := filepath.Join(t.TempDir(), "go")
	p.assign(shell(43, `echo "line 1"; while [ ! -e `+flag+` ]; do sleep 0.05; done; i=2; while [ $i -le 5000 ]; do echo "line $i .................................................."; i=$((i+1)); done; touch `+flag+`.done; sleep 0.3; `+succeed))
	run(t, p, c)
	p.until("the first line is there", p.holds(43, 1))
	p.setDown(true)
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(flag + ".done"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the stage does not end")
		}
	}
	time.Sleep(300 * time.Millisecond) // tries that fail meanwhile cut the spool
	p.setDown(false)
	if r := p.ended(43); r.Lines != 5000 {
		t.Errorf("the report says %d lines", r.Lines)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	next, gaps := uint64(1), 0
	for _, e := range p.events[43] {
		if g := e.Gap; g != nil {
			gaps++
			if g.From != next || e.ErrorCode != spool.CodeLinesDropped || !strings.Contains(e.Message, fmt.Sprintf("numbers %d to %d", g.From, g.To)) || g.Bytes < int64(g.Count())*50 {
				t.Errorf("after line %d comes the gap %+v: %s", next-1, g, e.Message)
			}
			next = g.To + 1
			continue
		}
		if word, _, _ := strings.Cut(e.Message+" .", " ."); e.SourceSeq != next || word != fmt.Sprintf("line %d", next) {
			t.Fatalf("line %d has the number %d and says %q", next, e.SourceSeq, e.Message)
		}
		next++
	}
	if next != 5001 || gaps == 0 {
		t.Errorf("the stream ends before line %d with %d gaps", next, gaps)
	}
}

func TestKeptSpoolsAreBoundedTogether(t *testing.T) {
	p, c := keeping(t)
	c.SpoolBytes, c.ProbeInterval = 100_000, 200*time.Millisecond
	run(t, p, c)
	for fence := uint64(50); fence < 54; fence++ {
		as := shell(fence, `i=0; while [ $i -lt 500 ]; do echo "line $i ................................................................"; i=$((i+1)); done; `+succeed)
		as.Stage.Name = fmt.Sprint("s", fence)
		p.assign(as)
		p.ended(fence)
	}
	p.until("the oldest are removed", func() bool { return slices.Equal(kept(c), []string{"52", "53"}) })
}

func TestAnAttemptThatTheControlPlaneForgotIsNotKept(t *testing.T) {
	p, c := keeping(t)
	p.keeps = false // ended attempts are unknown
	p.assign(shell(60, `echo hello; `+succeed))
	run(t, p, c)
	if r := p.ended(60); r.State != api.AttemptSucceeded {
		t.Fatalf("report %+v", r)
	}
	cleared(t, c.Dir, 60)
	p.until("its spool is removed", func() bool { return len(kept(c)) == 0 })
}

// Found by the chaos tests' zombie: an attempt that was cut off is given up with
// lines that nobody took. When they are sent at last, that is no loss: to the
// control plane it would mean a stream that has to be read anew by all.
func TestLinesThatWereNeverTakenAreNotCalledLost(t *testing.T) {
	p, c := keeping(t)
	p.assign(builtin(61, `{"lines":1000,"pause_ms":20}`))
	run(t, p, c)
	p.until("it prints", func() bool { return len(p.events[61]) >= 3 })
	p.setDown(true)
	time.Sleep(400 * time.Millisecond)
	p.makeStale(61)
	p.mu.Lock()
	before := len(p.events[61])
	p.mu.Unlock()
	p.setDown(false)
	cleared(t, c.Dir, 61)
	p.until("the rest of its lines arrives", func() bool { return len(p.events[61]) > before+5 })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holes > 0 {
		t.Errorf("%d times it said that lines were lost", p.holes)
	}
}
