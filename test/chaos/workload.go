//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/test/invariant"
)

// workload is what clients do to the mesh while it is broken.
type workload struct {
	mesh    *mesh
	history *invariant.History
	ledger  string // file to which stages write their starts and ends
	token   string
	seed    uint64

	life    context.Context // of clients and readers
	cancel  context.CancelFunc
	running sync.WaitGroup
	paused  atomic.Bool

	mu       sync.Mutex
	datasets []string            // acknowledged
	jobs     map[string]*planned // acknowledged or of unknown outcome
	order    []string
	readers  map[string]*invariant.Reader
	next     int
	ghosts   map[string]string // node ids by name

	// Limits.
	live     int // jobs that may be unfinished at a time
	training int // one of so many jobs trains
}

// planned is a job that a client submitted.
type planned struct {
	id       string
	spec     api.JobSpec
	acked    bool
	cancel   bool // a client asked for its end
	training bool
	lines    int // that each of its shell stages prints
	done     bool
}

func newWorkload(m *mesh, seed uint64) *workload {
	return &workload{mesh: m, history: invariant.NewHistory(), ledger: filepath.Join(m.dir, "ledger"), token: m.token("admin"), seed: seed,
		jobs: map[string]*planned{}, readers: map[string]*invariant.Reader{}, ghosts: map[string]string{}, live: 12, training: 12}
}

// shellStage prints numbered lines, leaves an artifact and writes its start and
// end into the ledger.
func (w *workload) shellStage(name string, lines int, pause string) api.StageSpec {
	script := fmt.Sprintf(`set -eu
fence=$(sed -n 's/^ *"fence": *\([0-9]*\).*/\1/p' "$TUNEMESH_INPUT" | head -n 1)
out=$(sed -n 's/^ *"output_dir": *"\(.*\)",*$/\1/p' "$TUNEMESH_INPUT" | head -n 1)
echo "start $fence $$" >> %[1]s
i=1
while [ $i -le %[2]d ]; do
  echo "{\"level\":\"INFO\",\"agent\":\"Chaos\",\"message\":\"line $i of %[2]d\"}"
  i=$((i+1))
  sleep %[3]s
done
echo "made by the stage %[4]s" > "$out/note.txt"
printf '{"status":"success","output":{"lines":%[2]d},"artifacts":{"note":"note.txt"},"metrics":{}}' > "$TUNEMESH_RESULT.tmp"
mv "$TUNEMESH_RESULT.tmp" "$TUNEMESH_RESULT"
echo "end $fence $$" >> %[1]s
`, w.ledger, lines, pause, name)
	return api.StageSpec{Name: name, Command: []string{"sh", "-c", script}, MaxAttempts: 20}
}

// tinyTraining is a job that trains the bundled model for a few steps.
const tinyTraining = `{"task":"classification","training":{"max_steps":40,"checkpoint_steps":5,"logging_steps":1,"batch_size":2},"seed":7}`

func trainingPipeline() *api.Pipeline {
	p := api.DefaultPipeline()
	out := &api.Pipeline{Nodes: p.Nodes[:4], Edges: p.Edges[:3]}
	for i := range out.Nodes {
		out.Nodes[i].MaxAttempts = 20
	}
	return out
}

func tinyRows() []byte {
	var b strings.Builder
	b.WriteString("text,label\n")
	for i := range 60 {
		fmt.Fprintf(&b, "the %s number %d is %s,%s\n", []string{"apple", "hammer"}[i%2], i, []string{"ripe and sweet", "heavy and made of steel"}[i%2], []string{"fruit", "tool"}[i%2])
	}
	return []byte(b.String())
}

// begin starts submitters, cancellers, readers of registers and of events.
func (w *workload) begin(clients int) error {
	ctx, cancel := context.WithCancel(context.Background())
	w.life, w.cancel = ctx, cancel
	up, cancelUp := context.WithTimeout(ctx, 30*time.Second)
	defer cancelUp()
	d, err := w.mesh.patient().UploadDataset(up, "tiny.csv", strings.NewReader(string(tinyRows())), int64(len(tinyRows())))
	if err != nil {
		return err
	}
	w.published(0, 0, d.ID)
	for i := range clients {
		random := rand.New(rand.NewPCG(w.seed, uint64(100+i)))
		w.running.Go(func() { w.client(ctx, i, random) })
	}
	w.running.Go(func() { w.submitter(ctx, rand.New(rand.NewPCG(w.seed, 99))) })
	return nil
}

// end stops all clients and waits.
func (w *workload) end() {
	w.cancel()
	w.running.Wait()
}

func (w *workload) anyServer(random *rand.Rand) string {
	return w.mesh.servers[random.IntN(len(w.mesh.servers))].url
}

const askLimit = 6 * time.Second

// client works on registers and jobs as fast as it is answered, at most fifty
// times a second.
func (w *workload) client(ctx context.Context, number int, random *rand.Rand) {
	for ctx.Err() == nil {
		if w.paused.Load() {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		began := time.Now()
		switch n := random.IntN(100); {
		case n < 35:
			w.write(ctx, number, w.ghost(ctx, random), random.IntN(2) == 0, random)
		case n < 70:
			w.read(ctx, number, w.ghost(ctx, random), random)
		case n < 96:
			if p := w.anyJob(random); p != nil {
				w.get(ctx, number, p, w.anyServer(random))
			}
		default:
			if p := w.anyJob(random); p != nil {
				w.create(ctx, number, p, w.anyServer(random)) // a client that repeats itself
			}
		}
		if rest := 20*time.Millisecond - time.Since(began); rest > 0 {
			time.Sleep(rest)
		}
	}
}

// ghost is a node that nobody runs: its drain is a register. A new set of four
// begins every 15 seconds, so that writes of unknown outcome stay few per key.
// Empty: it could not be made now.
func (w *workload) ghost(ctx context.Context, random *rand.Rand) string {
	name := fmt.Sprintf("ghost-%d-%d", time.Duration(w.history.Now())/(15*time.Second), random.IntN(4))
	w.mu.Lock()
	id := w.ghosts[name]
	w.mu.Unlock()
	if id != "" {
		return id
	}
	id, err := w.mesh.enrolGhost(ctx, w.anyServer(random), name)
	if err != nil {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ghosts[name] == "" {
		w.ghosts[name] = id
	}
	return w.ghosts[name]
}

func (w *workload) write(ctx context.Context, number int, ghost string, v bool, random *rand.Rand) {
	if ghost == "" {
		return
	}
	called := w.history.Now()
	a := w.mesh.ask(ctx, w.token, w.anyServer(random), http.MethodPost, "/v1/nodes/"+ghost+"/drain", map[string]bool{"drain": v}, askLimit)
	in := invariant.Input{Kind: invariant.Write, Key: "node/" + ghost, Value: v}
	switch {
	case a.Unknown:
		w.history.Add(number, called, in, invariant.Output{Unknown: true})
	case a.Err == nil:
		w.history.Add(number, called, in, invariant.Output{Status: a.Status})
	}
}

func (w *workload) read(ctx context.Context, number int, ghost string, random *rand.Rand) {
	if ghost == "" {
		return
	}
	called := w.history.Now()
	a := w.mesh.ask(ctx, w.token, w.anyServer(random), http.MethodGet, "/v1/nodes/"+ghost, nil, askLimit)
	if n, err := invariant.Decode[api.Node](a); err == nil {
		w.history.Add(number, called, invariant.Input{Kind: invariant.Read, Key: "node/" + ghost}, invariant.Output{Status: 200, Value: n.Drain, Index: n.Index})
	}
}

func (w *workload) anyJob(random *rand.Rand) *planned {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.order) == 0 {
		return nil
	}
	// Mostly young ones.
	i := len(w.order) - 1 - random.IntN(min(len(w.order), 20))
	return w.jobs[w.order[i]]
}

func (w *workload) get(ctx context.Context, number int, p *planned, server string) (api.JobDetail, error) {
	called := w.history.Now()
	a := w.mesh.ask(ctx, w.token, server, http.MethodGet, "/v1/jobs/"+p.id, nil, askLimit)
	in := invariant.Input{Kind: invariant.Get, Key: "job/" + p.id}
	if a.Status == http.StatusNotFound {
		w.history.Add(number, called, in, invariant.Output{Status: 404})
		return api.JobDetail{}, a.Err
	}
	d, err := invariant.Decode[api.JobDetail](a)
	if err != nil {
		return d, err
	}
	w.history.Add(number, called, in, invariant.Output{Status: 200, Phase: invariant.PhaseOf(string(d.State)), Index: d.Index})
	if d.State.Terminal() {
		w.mu.Lock()
		p.done = true
		w.mu.Unlock()
	}
	return d, nil
}

func (w *workload) create(ctx context.Context, number int, p *planned, server string) {
	called := w.history.Now()
	a := w.mesh.ask(ctx, w.token, server, http.MethodPost, "/v1/jobs", p.spec, askLimit)
	in := invariant.Input{Kind: invariant.Create, Key: "job/" + p.id}
	if a.Unknown {
		w.history.Add(number, called, in, invariant.Output{Unknown: true})
		return
	}
	d, err := invariant.Decode[api.JobDetail](a)
	if err != nil {
		if !a.Refused {
			w.mesh.say("submit of %s: %v", p.id, err)
		}
		return
	}
	w.history.Add(number, called, in, invariant.Output{Status: a.Status, Phase: invariant.PhaseOf(string(d.State)), Index: d.Index})
	w.mu.Lock()
	p.acked = true
	w.mu.Unlock()
}

func (w *workload) cancelJob(ctx context.Context, number int, p *planned, server string) {
	w.mu.Lock()
	p.cancel = true
	w.mu.Unlock()
	called := w.history.Now()
	a := w.mesh.ask(ctx, w.token, server, http.MethodPost, "/v1/jobs/"+p.id+"/cancel", map[string]string{"reason": "chaos"}, askLimit)
	in := invariant.Input{Kind: invariant.Cancel, Key: "job/" + p.id}
	switch {
	case a.Unknown:
		w.history.Add(number, called, in, invariant.Output{Unknown: true})
	case a.Status == http.StatusNotFound || a.Status == http.StatusConflict:
		w.history.Add(number, called, in, invariant.Output{Status: a.Status})
	case a.Err == nil:
		d, _ := invariant.Decode[api.JobDetail](a)
		w.history.Add(number, called, in, invariant.Output{Status: 200, Phase: invariant.PhaseOf(string(d.State)), Index: d.Index})
	}
}

// publish uploads a small dataset of its own bytes.
func (w *workload) publish(ctx context.Context, number, n int, random *rand.Rand) {
	called := w.history.Now()
	data := fmt.Appendf(nil, "text,label\nrow %d of seed %d,a\nrow,b\n", n, w.seed)
	a := w.mesh.ask(ctx, w.token, w.anyServer(random), http.MethodPost, fmt.Sprintf("/v1/datasets?name=chaos-%d.csv", n), data, 2*askLimit)
	d, err := invariant.Decode[api.Dataset](a)
	if err != nil {
		return // its id is not known; nothing was promised
	}
	w.published(number, called, d.ID)
}

// published remembers a dataset that was acknowledged.
func (w *workload) published(number int, called int64, id string) {
	w.history.Add(number, called, invariant.Input{Kind: invariant.Publish, Key: "dataset/" + id}, invariant.Output{Status: http.StatusCreated})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.datasets = append(w.datasets, id)
}

// submitter keeps some jobs going, cancels a few, and has each one's events
// read.
func (w *workload) submitter(ctx context.Context, random *rand.Rand) {
	number := 1000
	for sleepFor(ctx, time.Duration(100+random.IntN(300))*time.Millisecond) {
		if w.paused.Load() {
			continue
		}
		if random.IntN(6) == 0 {
			w.mu.Lock()
			w.next++
			n := w.next
			w.mu.Unlock()
			w.publish(ctx, number, n, random)
		}
		if w.unfinished(ctx, number, random) >= w.live {
			continue
		}
		p := w.plan(random)
		for range 8 {
			w.create(ctx, number, p, w.anyServer(random))
			w.mu.Lock()
			done := p.acked
			w.mu.Unlock()
			if done || !sleepFor(ctx, 300*time.Millisecond) {
				break
			}
		}
		w.follow(ctx, p)
		if !p.training && random.IntN(7) == 0 {
			wait := time.Duration(random.IntN(3000)) * time.Millisecond
			server := w.anyServer(random)
			w.running.Go(func() {
				if sleepFor(ctx, wait) {
					w.cancelJob(ctx, number+1, p, server)
				}
			})
		}
	}
}

func sleepFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// plan makes up a job and remembers it before anybody is asked.
func (w *workload) plan(random *rand.Rand) *planned {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	p := &planned{id: fmt.Sprintf("01CHAS%010d%010d", w.seed%100000, w.next)} // a ULID by its form
	p.spec = api.JobSpec{ID: p.id, Name: "chaos", Dataset: w.datasets[random.IntN(len(w.datasets))]}
	if w.training > 0 && random.IntN(w.training) == 0 {
		p.training = true
		p.spec.Dataset = w.datasets[0]
		p.spec.Config = json.RawMessage(tinyTraining)
		p.spec.Pipeline = trainingPipeline()
	} else {
		p.lines = 5 + random.IntN(40)
		p.spec.Pipeline = &api.Pipeline{Nodes: []api.StageSpec{w.shellStage("first", p.lines, "0.05")}}
		if random.IntN(3) == 0 {
			p.spec.Pipeline.Nodes = append(p.spec.Pipeline.Nodes, w.shellStage("second", p.lines, "0.02"))
			p.spec.Pipeline.Edges = []api.Edge{{From: "first", To: "second"}}
		}
		for i := range p.spec.Pipeline.Nodes {
			if random.IntN(2) == 0 { // half of them hold on while their node is cut off
				p.spec.Pipeline.Nodes[i].MaxDisconnect = "2m"
			}
		}
	}
	w.jobs[p.id] = p
	w.order = append(w.order, p.id)
	return p
}

// unfinished counts jobs not seen finished; it looks at one of them each time.
func (w *workload) unfinished(ctx context.Context, number int, random *rand.Rand) int {
	w.mu.Lock()
	var open []*planned
	for _, id := range w.order {
		if p := w.jobs[id]; !p.done {
			open = append(open, p)
		}
	}
	w.mu.Unlock()
	if len(open) == 0 {
		return 0
	}
	_, _ = w.get(ctx, number, open[random.IntN(len(open))], w.anyServer(random))
	_, _ = w.get(ctx, number, open[0], w.anyServer(random))
	return len(open)
}
