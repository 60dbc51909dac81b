//go:build linux

package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// agentMetricsPort is where an agent serves /metrics, on its own host.
const agentMetricsPort = "7704"

// held is what one process held at one moment.
type held struct {
	at    time.Duration // since the soak's begin
	pid   int
	value map[string]float64 // by quantity
}

// The quantities that the soak watches. All but the anonymous memory and the
// processor time are judged.
const (
	quantityRSS        = "rss KiB"
	quantityAnonymous  = "anonymous KiB"
	quantityFiles      = "files"
	quantityGoroutines = "goroutines"
	quantityCPU        = "cpu s"
)

var judged = []string{quantityRSS, quantityFiles, quantityGoroutines}

// soak is a series of samples for each process of a mesh.
type soak struct {
	mesh   *mesh
	token  string
	began  time.Time
	series map[string][]held
}

func newSoak(m *mesh, token string) *soak {
	return &soak{mesh: m, token: token, began: time.Now(), series: map[string][]held{}}
}

// sample looks at every process once.
func (s *soak) sample(ctx context.Context) {
	m := s.mesh
	look := func(p *process, metrics func() []byte) {
		pid := p.running()
		if pid == 0 {
			return
		}
		h := held{at: time.Since(s.began), pid: pid, value: map[string]float64{}}
		if list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
			h.value[quantityFiles] = float64(len(list))
		}
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		number(status, "VmRSS:", quantityRSS, h.value)
		number(status, "RssAnon:", quantityAnonymous, h.value)
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
			// After the name in brackets: the 12th and 13th are utime and stime, in
			// hundredths of a second.
			fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
			user, _ := strconv.ParseFloat(fields[11], 64)
			system, _ := strconv.ParseFloat(fields[12], 64)
			h.value[quantityCPU] = (user + system) / 100
		}
		if metrics != nil {
			number(metrics(), "go_goroutines", quantityGoroutines, h.value)
		}
		s.series[p.name] = append(s.series[p.name], h)
	}
	for _, server := range m.servers {
		look(server.process, func() []byte {
			return m.ask(ctx, s.token, server.url, http.MethodGet, "/metrics", nil, 5*time.Second).Body
		})
	}
	for _, agent := range m.agents {
		look(agent.process, func() []byte { return m.scrape(ctx, agent) })
	}
	look(m.store, nil)
	look(m.redis, nil)
}

// number takes the first number after a word that begins a line.
func number(text []byte, word, quantity string, into map[string]float64) {
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == word {
			if v, err := strconv.ParseFloat(fields[1], 64); err == nil {
				into[quantity] = v
			}
			return
		}
	}
}

// scrape reads an agent's metrics, which only its own host can reach.
func (m *mesh) scrape(ctx context.Context, agent *member) []byte {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = agent.host.do(func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+agentMetricsPort+"/metrics", nil)
	if err != nil {
		return nil
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	return data
}

// steady are the processes that were never started anew, whose series is one.
func (s *soak) steady() []string {
	var out []string
	for name, list := range s.series {
		if !slices.ContainsFunc(list, func(h held) bool { return h.pid != list[0].pid }) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// trendOf fits one quantity of one process after the warm-up.
func (s *soak) trendOf(name, quantity string, warm time.Duration, z float64) trend {
	var times, values []float64
	for _, h := range s.series[name] {
		if v, ok := h.value[quantity]; ok && h.at >= warm {
			times, values = append(times, h.at.Hours()), append(values, v)
		}
	}
	return fit(times, values, z)
}

// growing judges every steady process of the project: a quantity that surely
// grows by more than limit an hour is a fault. The rest is said.
func (s *soak) growing(warm time.Duration, limit float64) []string {
	var faults []string
	// So many are judged at once that one in twenty soaks would accuse somebody
	// by chance at 1.6 deviations each: Bonferroni.
	z := math.Sqrt2 * math.Erfinv(1-2*0.05/float64(len(s.steady())*len(judged)))
	for _, name := range s.steady() {
		list := s.series[name]
		last := list[len(list)-1]
		busy := (last.value[quantityCPU] - list[0].value[quantityCPU]) / (last.at - list[0].at).Seconds()
		s.mesh.say("%s: %.1f %% of a core over %s", name, busy*100, (last.at - list[0].at).Round(time.Second))
		for _, quantity := range append([]string{quantityAnonymous}, judged...) {
			t := s.trendOf(name, quantity, warm, z)
			if t.level == 0 {
				continue
			}
			text := fmt.Sprintf("%-6s %-13s median %9.0f, %+6.2f %%/h (%+.2f to %+.2f), %d samples", name, quantity, t.level, t.perHour*100, t.low*100, t.high*100, t.samples)
			s.mesh.say("%s", text)
			if t.low > limit && name != "redis" && slices.Contains(judged, quantity) {
				faults = append(faults, "I10: grows: "+text)
			}
		}
	}
	return faults
}

// table writes the samples as CSV.
func (s *soak) table(path string) error {
	var b bytes.Buffer
	fmt.Fprintln(&b, "minute,process,pid,rss_kib,anonymous_kib,files,goroutines,cpu_s")
	var names []string
	for name := range s.series {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, h := range s.series[name] {
			fmt.Fprintf(&b, "%.2f,%s,%d,%.0f,%.0f,%.0f,%.0f,%.2f\n", h.at.Minutes(), name, h.pid, h.value[quantityRSS], h.value[quantityAnonymous],
				h.value[quantityFiles], h.value[quantityGoroutines], h.value[quantityCPU])
		}
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}
