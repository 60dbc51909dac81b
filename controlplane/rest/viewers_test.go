package rest_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// TestAThousandViewers measures how long an event is on its way to a thousand
// readers of one job at ten events a second, clients in the same process. It is
// slow, and its figure means something on a quiet machine only.
func TestAThousandViewers(t *testing.T) {
	if os.Getenv("TUNEMESH_SLOW") == "" {
		t.Skip("takes ten seconds and 2,000 sockets: set TUNEMESH_SLOW=1")
	}
	const viewers, count = 1000, 50
	m := newMesh(t)
	job := running(t, m, 0)
	c := m.clientWith(api.RoleViewer, &http.Transport{DialContext: (&net.Dialer{Timeout: 30 * time.Second}).DialContext, DisableKeepAlives: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	var delays []time.Duration
	var wg, ready sync.WaitGroup
	stop := errors.New("enough")
	for range viewers {
		ready.Add(1)
		wg.Go(func() {
			n := 0
			first := sync.OnceFunc(ready.Done)
			err := c.Events(ctx, job, 0, true, func(e api.Event) error {
				first() // the job's own events come at once
				if e.Level != api.LevelInfo {
					return nil
				}
				mu.Lock()
				delays = append(delays, time.Since(e.Timestamp))
				mu.Unlock()
				if n++; n == count {
					return stop
				}
				return nil
			})
			if !errors.Is(err, stop) {
				t.Errorf("a viewer saw %d events: %v", n, err)
			}
		})
	}
	ready.Wait()
	before := cpuTime(t)
	began := time.Now()
	for i := range uint64(count) {
		if _, err := m.events.Append(ctx, job, "a1", i+1, []api.Event{{Level: api.LevelInfo, Timestamp: time.Now(), Message: "step"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	wg.Wait()
	cores := (cpuTime(t) - before).Seconds() / time.Since(began).Seconds()
	slices.Sort(delays)
	p := func(q float64) time.Duration {
		return delays[int(q*float64(len(delays)-1))].Round(100 * time.Microsecond)
	}
	t.Logf("%d viewers, 10 events a second: p50 %v, p99 %v, longest %v; %.2f cores for server and clients", viewers, p(.5), p(.99), p(1), cores)
	if len(delays) != viewers*count {
		t.Errorf("%d deliveries, want %d", len(delays), viewers*count)
	}
	if p(.99) > 2*time.Second {
		t.Errorf("p99 is %v", p(.99))
	}
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
