package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

// outcome is what became of one seed.
type outcome struct {
	plan                           plan
	faults                         map[string]int // by kind, those that hit something
	violations                     []string
	jobs, attempts, lost, trainers int
	events, resets                 int
	operations, unknown            int
	took                           time.Duration // of simulated time
	network                        figures
}

func (o outcome) String() string {
	n := 0
	for _, c := range o.faults {
		n += c
	}
	return fmt.Sprintf("seed %d: %d faults in %s, %d jobs, %d attempts (%d lost), %d processes, %d events (%d resets), %d operations (%d unknown), %+v",
		o.plan.seed, n, o.took.Round(time.Second), o.jobs, o.attempts, o.lost, o.trainers, o.events, o.resets, o.operations, o.unknown, o.network)
}

// simulate runs one plan in a bubble of its own.
func simulate(t *testing.T, p plan, broken plant) (o outcome) {
	dir, err := os.MkdirTemp(memoryDir(), "simulation-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("TUNEMESH_SIMULATION_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	repeat := fmt.Sprintf("seed %d; repeat: make test-simulation SEED=%d", p.seed, p.seed)
	hanging := time.AfterFunc(stuckTime, func() {
		fmt.Fprintf(os.Stderr, "it takes long: %s\n", repeat)
	})
	defer hanging.Stop()
	defer func() {
		if why := recover(); why != nil {
			fmt.Fprintf(os.Stderr, "%s\n%s", repeat, p)
			panic(why)
		}
	}()
	synctest.Test(t, func(t *testing.T) { o = inBubble(t, p, broken, dir, log) })
	return o
}

// stuckTime, of the real clock, is after what a seed is said to take long: a bubble
// in which somebody waits for a lock, whose holder waits for the simulated clock,
// stands still.
const stuckTime = 5 * time.Minute

// memoryDir is where files cost least; empty for the system's choice.
func memoryDir() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// settleTime is how long, after the last fault, everything may take to end: the
// longest grace, the longest backoff, and stages that begin anew.
const settleTime = 30 * time.Minute

func inBubble(t *testing.T, p plan, broken plant, dir string, log *slog.Logger) outcome {
	o := outcome{plan: p}
	began := time.Now()
	m, err := newMesh(p, broken, dir, log)
	if err != nil {
		t.Fatal(err)
	}
	c := newClients(m)
	if err := c.begin(); err != nil {
		m.fail("%v", err)
	} else {
		x := &nemesis{mesh: m, begin: time.Now(), done: map[string]int{}}
		x.blow()
		o.faults = x.done
		c.settle(settleTime)
		c.stop()
		c.running.Wait()
		// The last lines are heard, and stages that nobody wants are stopped.
		time.Sleep(2 * time.Minute)
		c.verify(&o)
	}
	c.web.CloseIdleConnections()
	o.took = time.Since(began)
	o.network = m.net.figures
	if err := m.close(); err != nil {
		m.fail("close: %v", err)
	}
	c.process.kill(false)
	c.reading.Wait()
	c.web.CloseIdleConnections()
	o.violations = m.faults
	return o
}

func TestMain(m *testing.M) {
	// The client's encoder is made once for the process, with channels that must not
	// belong to a bubble.
	big := strings.Repeat("x", 8<<10)
	c := client.New(client.Config{Servers: []string{"http://nowhere"}, HTTP: &http.Client{Transport: nowhere{}}, Retries: -1})
	_, _ = c.AppendEvents(context.Background(), 1, api.EventBatch{Events: []api.Event{{Message: big}}})
	os.Exit(m.Run())
}

type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) { return nil, http.ErrServerClosed }

func number(name string, otherwise int) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		return otherwise
	}
	return n
}

// TestAMeshInCalm has nothing break: one server and one agent, then three of each.
func TestAMeshInCalm(t *testing.T) {
	for _, size := range []int{1, 3} {
		p := newPlan(uint64(size))
		p.servers, p.agents, p.faults = size, size, nil
		o := simulate(t, p, plant{})
		t.Log(o)
		for _, v := range o.violations {
			t.Error(v)
		}
	}
}

// totals are what all seeds of a run came to.
type totals struct {
	mu     sync.Mutex
	began  time.Time
	all    outcome
	seeds  int
	kinds  map[string]int
	broken []int // seeds with violations
}

func (s *totals) add(o outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seeds++
	for kind, n := range o.faults {
		s.kinds[kind] += n
	}
	a := &s.all
	a.took += o.took
	a.jobs, a.attempts, a.lost, a.trainers = a.jobs+o.jobs, a.attempts+o.attempts, a.lost+o.lost, a.trainers+o.trainers
	a.events, a.operations, a.unknown = a.events+o.events, a.operations+o.operations, a.unknown+o.unknown
	if len(o.violations) > 0 {
		s.broken = append(s.broken, int(o.plan.seed))
	}
}

// found says whether a seed has broken something: one is enough to look at.
func (s *totals) found() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.broken) > 0
}

func (s *totals) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	n := 0
	for _, kind := range slices.Sorted(maps.Keys(s.kinds)) {
		fmt.Fprintf(&b, "%6d x %s\n", s.kinds[kind], kind)
		n += s.kinds[kind]
	}
	a := s.all
	return fmt.Sprintf("%d seeds, %d faults, %.1f simulated hours in %s: %d jobs, %d attempts (%d lost), %d processes, %d events, %d operations (%d of unknown outcome)\n%s",
		s.seeds, n, a.took.Hours(), time.Since(s.began).Round(time.Second), a.jobs, a.attempts, a.lost, a.trainers, a.events, a.operations, a.unknown, &b)
}

// TestSimulation runs seeds: TUNEMESH_SIMULATION_SEEDS of them from
// TUNEMESH_SIMULATION_FIRST on. It stops at the first that breaks something.
func TestSimulation(t *testing.T) {
	first, count := number("TUNEMESH_SIMULATION_FIRST", 1), number("TUNEMESH_SIMULATION_SEEDS", 2)
	sum := &totals{began: time.Now(), kinds: map[string]int{}}
	t.Run("seed", func(t *testing.T) {
		for seed := first; seed < first+count; seed++ {
			t.Run(strconv.Itoa(seed), func(t *testing.T) {
				t.Parallel()
				if sum.found() {
					t.Skip("another seed has broken something")
				}
				o := simulate(t, newPlan(uint64(seed)), plant{})
				sum.add(o)
				if count == 1 {
					t.Log(o)
				}
				if len(o.violations) > 0 {
					t.Errorf("seed %d breaks %s\nrepeat: make test-simulation SEED=%d\n%s", seed, strings.Join(o.violations, "\n"), seed, o.plan)
				}
			})
		}
	})
	t.Log(sum)
	if len(sum.broken) > 0 {
		t.Errorf("the first violating seed is %d; repeat: make test-simulation SEED=%d", slices.Min(sum.broken), slices.Min(sum.broken))
	}
}
