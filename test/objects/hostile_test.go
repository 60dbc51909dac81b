package objects_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/transfer"
)

// TestAHostileStore is T11 of docs/reliability.md. TUNEMESH_OBJECTS=N runs N seeds
// of a longer form, from TUNEMESH_OBJECTS_SEED on.
func TestAHostileStore(t *testing.T) {
	seed := uint64(1)
	if s, err := strconv.ParseUint(os.Getenv("TUNEMESH_OBJECTS_SEED"), 10, 64); err == nil {
		seed = s
	}
	n, err := strconv.Atoi(os.Getenv("TUNEMESH_OBJECTS"))
	if err != nil {
		hostile(t, seed, plan{jobs: 2, large: 1, kills: 1, faults: 15})
		return
	}
	for i := range uint64(n) {
		t.Run(fmt.Sprint("seed ", seed+i), func(t *testing.T) {
			hostile(t, seed+i, plan{jobs: 12, large: 4, kills: 8, restart: true, faults: 150})
		})
	}
}

// plan is how much is done.
type plan struct {
	jobs, large int  // so many, of which so many have a large file
	kills       int  // of agents
	restart     bool // of the server, in the middle
	faults      int  // so many at least, or the test was too easy
}

type job struct {
	id    string
	seed  uint64
	large int
}

func hostile(t *testing.T, seed uint64, p plan) {
	m := newMesh(t, seed, 2)
	d, err := m.user.UploadDataset(t.Context(), "t.csv", strings.NewReader("text,label\n"+strings.Repeat("a,b\n", 10_000)), -1)
	if err != nil {
		t.Fatal(err)
	}
	m.proxy.on.Store(true)
	var jobs []job
	for i := range p.jobs {
		j := job{seed: seed*1000 + uint64(i)*2}
		if i < p.large {
			j.large = transfer.PartsFrom + 1000*i
		}
		j.id = m.submit(d.ID, j.seed, j.large)
		jobs = append(jobs, j)
	}
	dice := rand.New(rand.NewPCG(seed, 0))
	for i := range p.kills {
		time.Sleep(time.Duration(1500+dice.IntN(2000)) * time.Millisecond)
		a := m.agents[dice.IntN(len(m.agents))]
		a.kill()
		if p.restart && i == p.kills/2 {
			if err := m.server.Close(); err != nil {
				t.Error(err)
			}
			m.open()
		}
		a.start()
	}
	ended, open := map[string]api.JobDetail{}, ""
	m.until(&open, 5*time.Minute, func() bool {
		open = "these have ended:"
		for _, j := range jobs {
			d, err := m.user.Job(t.Context(), j.id)
			if err == nil && d.State.Terminal() {
				ended[j.id] = d
				continue
			}
			open += fmt.Sprintf("\njob %s (%v)", j.id, err)
			for _, s := range d.Stages {
				open += fmt.Sprintf(" %s: %s, attempt %d, waits for %q;", s.Name, s.State, s.Attempt, s.WaitReason)
			}
		}
		open += m.proxy.tell()
		return len(ended) == len(jobs)
	})
	m.proxy.on.Store(false)
	t.Logf("seed %d: faults%s", seed, m.proxy.tell())

	objects, succeeded, attempts := 0, 0, 0
	for _, j := range jobs {
		d := ended[j.id]
		for i, s := range d.Stages {
			attempts += s.Attempt
			large := 0
			if i == 0 {
				large = j.large
			}
			objects += m.check(s, j.seed+uint64(i), large)
		}
		if d.State == api.JobSucceeded {
			succeeded++
			continue
		}
		letters, err := m.user.DeadLetters(t.Context(), j.id)
		if err != nil || len(letters) == 0 || letters[0].Error.Message == "" {
			t.Errorf("job %s is %s without a reason: %+v, %v", j.id, d.State, letters, err)
			continue
		}
		t.Logf("job %s ended with %s: %s", j.id, letters[0].Error.Code, letters[0].Error.Message)
	}
	t.Logf("%d of %d jobs succeeded with %d attempts, %d objects are as their manifests say", succeeded, len(jobs), attempts, objects)
	for i, a := range m.agents {
		t.Logf("agent %d had %d MiB in memory at most", i, max(a.peak, peakOf(a.cmd.Process.Pid))>>20)
	}
	// A test that was too easy, or in which nothing worked, shows nothing.
	if 3*succeeded < 2*len(jobs) {
		t.Errorf("only %d of %d jobs succeeded", succeeded, len(jobs))
	}
	if n := m.proxy.faults(); n < p.faults {
		t.Errorf("%d faults, want %d at least", n, p.faults)
	}
	left := ""
	m.until(&left, 30*time.Second, func() bool {
		list := m.leftovers()
		left = fmt.Sprint("the store is rid of ", list)
		return len(list) == 0
	})
}

// check compares what a succeeded stage's manifest names with what lies in the
// store and with what the stage made: I6.
func (m *mesh) check(s api.Stage, seed uint64, large int) (objects int) {
	m.t.Helper()
	if s.State != api.StageSucceeded {
		return 0
	}
	files := filesOf(large)
	if len(s.Artifacts) != len(files) {
		m.t.Errorf("stage %s of %s names %d artifacts, want %d", s.Name, s.JobID, len(s.Artifacts), len(files))
	}
	named := slices.Clone(s.Artifacts)
	for _, c := range s.Checkpoints {
		named = append(named, c.Files...)
		files["state"] = checkpointSize
	}
	for _, a := range named {
		data, err := m.stored(a)
		switch {
		case err != nil:
			m.t.Errorf("%s/%s: %v", a.Bucket, a.Key, err)
		case int64(len(data)) != a.Size || sumOf(data) != a.SHA256:
			m.t.Errorf("%s/%s: the store has other bytes than the manifest says", a.Bucket, a.Key)
		case !bytes.Equal(data, content(seed, a.Name, files[a.Name])):
			m.t.Errorf("%s/%s: the store has other bytes than the stage made", a.Bucket, a.Key)
		}
		objects++
	}
	return objects
}
