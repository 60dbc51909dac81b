package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// The tests start this program as a child, as doctor does.
func TestMain(m *testing.M) {
	if code, ours := runChild(os.Args[1:]); ours {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// fit is a machine on which nothing is wrong.
func fit() api.Capability {
	return api.Capability{OS: "linux", MemoryBytes: 64 << 30, DiskBytes: 500 << 30,
		Engines: []api.Engine{{Name: "native", Available: true}, {Name: "peft", Reason: "not installed"}}}
}

func goodStep(context.Context) (stepResult, error) {
	return stepResult{Model: "mini", Device: "cpu", Seconds: 0.2, TokensPerSec: 5000}, nil
}

// examine is a diagnosis of a machine with faults.
func examine(t *testing.T, change func(*examiner, *api.Capability)) diagnosis {
	t.Helper()
	c := fit()
	e := examiner{dir: t.TempDir(), root: fstest.MapFS{}, step: goodStep}
	if change != nil {
		change(&e, &c)
	}
	e.detect = func(context.Context, string) api.Capability { return c }
	return e.diagnose(t.Context())
}

func one(t *testing.T, d diagnosis, check string) finding {
	t.Helper()
	i := slices.IndexFunc(d.Findings, func(f finding) bool { return f.Check == check })
	if i < 0 {
		t.Fatalf("no check %s in %+v", check, d.Findings)
	}
	return d.Findings[i]
}

func TestEachFaultOfAMachineIsFoundWithWhatToDo(t *testing.T) {
	if d := examine(t, nil); !d.OK || slices.ContainsFunc(d.Findings, func(f finding) bool { return f.Status != statusOK }) {
		t.Errorf("a machine on which nothing is wrong: %+v", d)
	}
	card := fstest.MapFS{
		"sys/bus/pci/devices/0000:01:00.0/class":  {Data: []byte("0x030200\n")},
		"sys/bus/pci/devices/0000:01:00.0/vendor": {Data: []byte("0x10de\n")},
		"sys/bus/pci/devices/0000:01:00.1/class":  {Data: []byte("0x040300\n")}, // its sound
		"sys/bus/pci/devices/0000:01:00.1/vendor": {Data: []byte("0x10de\n")},
	}
	for name, c := range map[string]struct {
		change      func(*examiner, *api.Capability)
		check, want string
		words       string // of detail or hint
	}{
		"full disk":    {func(_ *examiner, c *api.Capability) { c.DiskBytes = 1 << 30 }, "disk", statusFailed, "--data-dir"},
		"little disk":  {func(_ *examiner, c *api.Capability) { c.DiskBytes = 10 << 30 }, "disk", statusWarning, "small models"},
		"small memory": {func(_ *examiner, c *api.Capability) { c.MemoryBytes = 1 << 30 }, "memory", statusWarning, "smallest models"},
		"no engine":    {func(_ *examiner, c *api.Capability) { c.Engines[0].Available = false }, "engines", statusFailed, "tunemesh engine list"},
		"no driver":    {func(e *examiner, _ *api.Capability) { e.root = card }, "gpu", statusWarning, "1 NVIDIA card"},
		"a driver": {func(e *examiner, c *api.Capability) {
			e.root, c.GPUs = card, []api.GPU{{Kind: "cuda", Name: "L4", MemoryBytes: 24 << 30, Driver: "550.54"}}
		}, "gpu", statusOK, "L4 24.0 GiB driver 550.54"},
		"step killed": {func(e *examiner, _ *api.Capability) {
			e.step = func(context.Context) (stepResult, error) { return stepResult{}, errors.New("signal: killed") }
		}, "step", statusFailed, "dmesg"},
		"step slow": {func(e *examiner, _ *api.Capability) {
			e.step = func(context.Context) (stepResult, error) { return stepResult{TokensPerSec: 10}, nil }
		}, "step", statusWarning, "slow"},
		"step too slow": {func(e *examiner, _ *api.Capability) {
			e.step = func(context.Context) (stepResult, error) {
				return stepResult{}, fmt.Errorf("none: %w", context.DeadlineExceeded)
			}
		}, "step", statusWarning, "busy"},
	} {
		t.Run(name, func(t *testing.T) {
			d := examine(t, c.change)
			f := one(t, d, c.check)
			if f.Status != c.want || !strings.Contains(f.Detail+" "+f.Hint, c.words) || f.Status != statusOK && f.Hint == "" {
				t.Errorf("%+v", f)
			}
			if d.OK != (c.want != statusFailed) {
				t.Errorf("ok is %v", d.OK)
			}
		})
	}
}

func TestABadClockIsFoundWithWhatToDo(t *testing.T) {
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for skew, want := range map[time.Duration]string{
		0: statusOK, 900 * time.Millisecond: statusOK, -1900 * time.Millisecond: statusOK, 5 * time.Second: statusWarning, -29 * time.Second: statusWarning,
		31 * time.Second: statusFailed, -time.Hour: statusFailed,
	} {
		f := checkClock(noon.Add(skew), noon, "https://cp1")
		if f.Status != want || (f.Hint == "") != (want == statusOK) {
			t.Errorf("%s: %+v", skew, f)
		}
		if skew < -time.Second && !strings.Contains(f.Detail, "behind") || skew > time.Second && !strings.Contains(f.Detail, "ahead") {
			t.Errorf("%s: %s", skew, f.Detail)
		}
	}
}

// stand is a control plane with an object store, as far as doctor sees them.
type stand struct {
	mu      sync.Mutex
	objects map[string]string
	status  int    // of /readyz and the probe's answer, where not 200
	probe   int    // status of the probe, where not 200
	corrupt bool   // the store gives back something else
	store   string // where links point to; empty: to this server
}

func (s *stand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.URL.Path == "/readyz":
		w.WriteHeader(max(200, s.status))
	case r.URL.Path == "/v1/doctor/probe" && s.probe != 0:
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(s.probe)
		_ = json.NewEncoder(w).Encode(api.Problem{Title: http.StatusText(s.probe), Status: s.probe, Detail: "for some reason"})
	case r.URL.Path == "/v1/doctor/probe":
		base := s.store
		if base == "" {
			base = "http://" + r.Host
		}
		link := base + "/object?X-Amz-Signature=secretsignature"
		_ = json.NewEncoder(w).Encode(api.StoreProbe{PutURL: link, GetURL: link, DeleteURL: link, MaxBytes: 1000})
	case r.Method == http.MethodPut:
		data, _ := io.ReadAll(r.Body)
		s.objects["object"] = string(data)
	case r.Method == http.MethodDelete:
		delete(s.objects, "object")
	default:
		if s.corrupt {
			_, _ = io.WriteString(w, "something else")
			return
		}
		_, _ = io.WriteString(w, s.objects["object"])
	}
}

// nobody is an address at which nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	return s.URL
}

func TestEachFaultOnTheWayIsFoundWithWhatToDo(t *testing.T) {
	gone := nobody(t)
	for name, c := range map[string]struct {
		stand        *stand
		token        string
		skew         time.Duration
		check, want  string
		words        string
		joinsAllSame bool // the agent does not refuse to join for it
	}{
		"all well":            {stand: &stand{}, token: "tm_a_b", check: "store", want: statusOK, words: "written, read back and deleted", joinsAllSame: true},
		"unreachable store":   {stand: &stand{store: gone}, token: "tm_a_b", check: "store", want: statusFailed, words: "--s3-public-endpoint"},
		"corrupting store":    {stand: &stand{corrupt: true}, token: "tm_a_b", check: "store", want: statusFailed, words: "not what was written"},
		"bad token":           {stand: &stand{probe: 401}, token: "tm_a_b", check: "store", want: statusFailed, words: "token create"},
		"store of the server": {stand: &stand{probe: 500}, token: "tm_a_b", check: "store", want: statusFailed, words: "for some reason"},
		"older server":        {stand: &stand{probe: 404}, token: "tm_a_b", check: "store", want: statusWarning, words: "older", joinsAllSame: true},
		"no token":            {stand: &stand{}, check: "store", want: statusWarning, words: "--token", joinsAllSame: true},
		"not ready":           {stand: &stand{status: 503, probe: 503}, token: "tm_a_b", check: "server", want: statusWarning, words: "not ready", joinsAllSame: true},
		"clock":               {stand: &stand{}, token: "tm_a_b", skew: time.Minute, check: "clock", want: statusFailed, words: "NTP"},
		"cut token":           {stand: &stand{}, token: "M1abc::node:x", check: "server", want: statusFailed, words: "whole line"},
	} {
		t.Run(name, func(t *testing.T) {
			c.stand.objects = map[string]string{}
			s := httptest.NewServer(c.stand)
			defer s.Close()
			findings := reacher{now: func() time.Time { return time.Now().Add(c.skew) }}.check(t.Context(), s.URL, c.token)
			f := one(t, diagnosis{Findings: findings}, c.check)
			if f.Status != c.want || !strings.Contains(f.Detail+" "+f.Hint, c.words) || f.Status != statusOK && f.Hint == "" {
				t.Errorf("%+v", findings)
			}
			refuses := slices.ContainsFunc(findings, func(f finding) bool { return f.Status == statusFailed && !f.passing })
			if refuses == c.joinsAllSame {
				t.Errorf("an agent refuses to join: %v; %+v", refuses, findings)
			}
			if text := fmt.Sprint(findings); strings.Contains(text, "secretsignature") {
				t.Errorf("the link's signature is told: %s", text)
			}
			if len(c.stand.objects) > 0 {
				t.Error("the probe is still in the store")
			}
		})
	}
	findings := reacher{}.check(t.Context(), gone, "tm_a_b")
	if f := one(t, diagnosis{Findings: findings}, "server"); f.Status != statusFailed || !strings.Contains(f.Hint, "firewall") || !f.passing {
		t.Errorf("an unreachable server: %+v", findings)
	}
}

func TestTheBundledModelTrainsAStepInAChild(t *testing.T) {
	r, err := trainOneStep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.LossAfter >= r.LossBefore || r.TokensPerSec <= 0 || r.Tokens != stepRows*stepLength || r.Model != "tunemesh-mini" {
		t.Errorf("%+v", r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := trainOneStep(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a step that does not end: %v", err)
	}
}

func TestWhatAMachineTrainsIsSaidForEachDevice(t *testing.T) {
	c := fit()
	c.GPUs = []api.GPU{{Index: 0, Kind: "cuda", Name: "L4", MemoryBytes: 24 << 30}, {Index: 1, Kind: "metal", Name: "M4", MemoryBytes: 24 << 30}, {Index: 2, Kind: "cuda", Name: "H100", MemoryBytes: 80 << 30}}
	l := loraLimits(c)
	if len(l) != 4 {
		t.Fatalf("%+v", l)
	}
	cpu, l4, m4, h100 := l[0], l[1], l[2], l[3]
	// An 8 B model in bf16 takes 16 GB and trains on a card of 24 GB; 70 B takes
	// 35 GB in 4 bits and trains on one of 80 GB, 140 GB in bf16 does not.
	if l4.Billions < 7 || l4.Billions > 11 || l4.Int4 < 1.5*l4.Billions {
		t.Errorf("L4: %+v", l4)
	}
	if h100.Billions < 28 || h100.Billions > 40 || h100.Int4 < 70 {
		t.Errorf("H100: %+v", h100)
	}
	if m4.Billions != l4.Billions || m4.Int4 != 0 {
		t.Errorf("Metal: %+v", m4)
	}
	if cpu.Billions < 15 || cpu.Billions > 32 || !strings.Contains(l4.Hint, "engine install peft") || cpu.Hint != "" {
		t.Errorf("%+v", l)
	}
	last := 0.0
	for memory := int64(1 << 30); memory <= 1<<40; memory *= 2 {
		b := largest(memory, onCPU(memory, "bf16"))
		if b < last {
			t.Errorf("with %s up to %.1f B, with half of it up to %.1f B", gib(memory), b, last)
		}
		last = b
	}
	if got := loraLimits(api.Capability{})[0]; got.Billions != 0 || !strings.Contains(got.String(), "not known") {
		t.Errorf("%+v", got)
	}
}

// An agent's first start refuses what would make it useless, and waits for what
// passes by itself.
func TestAnUnfitMachineDoesNotJoin(t *testing.T) {
	for name, c := range map[string]struct {
		stand   *stand
		refuses bool
	}{
		"no way to the store":   {&stand{store: nobody(t)}, true},
		"the mesh starts":       {&stand{status: 503, probe: 503}, false},
		"nothing wrong with it": {&stand{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.stand.objects = map[string]string{}
			s := httptest.NewServer(c.stand)
			defer s.Close()
			var said strings.Builder
			j := joining{log: slog.New(slog.NewTextHandler(&said, nil))}
			err := j.judge(examine(t, func(e *examiner, _ *api.Capability) {
				e.servers, e.token, e.reach = []string{s.URL}, "tm_a_b", reacher{}.check
			}))
			if refuses := err != nil && strings.Contains(err.Error(), "store: "); refuses != c.refuses || !refuses && err != nil {
				t.Errorf("%v", err)
			}
			if c.refuses && !strings.Contains(err.Error(), "--skip-preflight") {
				t.Errorf("the error does not say what to do: %v", err)
			}
			for _, want := range []string{"check=step", "check=store", "lora_billions="} {
				if !strings.Contains(said.String(), want) {
					t.Errorf("the log has no %s:\n%s", want, said.String())
				}
			}
		})
	}
}
