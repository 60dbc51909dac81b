//go:build linux

package chaos

import (
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// T14: a mesh under light and steady load, for hours (TUNEMESH_SOAK_HOURS): no
// process's memory, open files or goroutines grow by more than 1 % an hour once
// it is warm. One agent is replaced and killed in turns; the others and the
// servers run through.
func TestASoak(t *testing.T) {
	hours, err := strconv.ParseFloat(os.Getenv("TUNEMESH_SOAK_HOURS"), 64)
	if err != nil || hours <= 0 {
		t.Skip("takes hours: set TUNEMESH_SOAK_HOURS, or use make test-soak HOURS=n")
	}
	length := time.Duration(hours * float64(time.Hour))
	warm := min(max(length/4, 10*time.Minute), 2*time.Hour)
	interval := min(time.Minute, length/60)
	m := start(t, shape{servers: 3, agents: 3})
	w := newWorkload(m, seed(t))
	w.training = 0
	w.prepare(t)
	s := newSoak(m, w.token)
	path := os.Getenv("TUNEMESH_SOAK_TABLE")
	if path == "" {
		path = filepath.Join(m.dir, "soak.csv")
	}
	probe, err := m.enrolGhost(t.Context(), m.servers[0].url, "probe")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.life, length)
	defer cancel()
	w.running.Go(func() { w.lightLoad(ctx, probe, rand.New(rand.NewPCG(w.seed, 1))) })
	restarting := m.agents[len(m.agents)-1]
	next, restarts := time.Now().Add(3*time.Minute), 0
	for sleepFor(ctx, interval) {
		s.sample(ctx)
		if err := s.table(path); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(next) {
			next = time.Now().Add(7 * time.Minute)
			if restarts%2 == 0 {
				restarting.restart(restarting.argv)
			} else {
				restarting.kill(time.Second)
			}
			restarts++
		}
	}
	for _, name := range []string{"s1", "s2", "s3", "a1", "a2", "store"} {
		if !slices.Contains(s.steady(), name) {
			t.Errorf("%s was not one process through the whole soak", name)
		}
	}
	for _, f := range s.growing(warm, 0.01) {
		t.Error(f)
	}
	t.Logf("%s of soak, %s of it warm-up; %d restarts of %s", length, warm, restarts, restarting.name)
	if rep := w.checked(t, ""); rep.failed > 0 || rep.succeeded < int(length/time.Minute) {
		t.Errorf("%s: want one success a minute at least, and no failure", rep)
	}
	for _, f := range newStorm(w).equalStates() {
		t.Error(f)
	}
}

// lightLoad is a job every half minute, read by two readers, and a write and
// some reads every other second.
func (w *workload) lightLoad(ctx context.Context, probe string, random *rand.Rand) {
	jobs := 0
	for began := time.Now(); sleepFor(ctx, 2*time.Second); {
		w.write(ctx, 0, probe, random.IntN(2) == 0, random)
		w.read(ctx, 1, probe, random)
		if p := w.anyJob(random); p != nil {
			_, _ = w.get(ctx, 2, p, w.anyServer(random))
		}
		w.mesh.ask(ctx, w.token, w.anyServer(random), http.MethodGet, "/v1/jobs?limit=20", nil, askLimit)
		if int(time.Since(began)/(30*time.Second)) < jobs {
			continue
		}
		jobs++
		p := w.plan(random)
		for range 8 {
			if w.create(ctx, 3, p, w.anyServer(random)); p.acked || !sleepFor(ctx, time.Second) {
				break
			}
		}
		w.follow(ctx, p)
	}
}
