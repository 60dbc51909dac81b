package simulation

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/nodeagent"
	"github.com/tunemesh/tunemesh/test/invariant"
)

// clients are who use the mesh: they submit and cancel jobs, read them back, write
// and read registers, and read events. What they are told is the history.
type clients struct {
	mesh    *mesh
	history *invariant.History
	web     *http.Client
	token   string
	process *process

	stop    context.CancelFunc
	running sync.WaitGroup // registers and reads
	submits sync.WaitGroup
	reading sync.WaitGroup // readers of events

	mu       sync.Mutex
	dataset  string
	jobs     []*job
	datasets []string
	readers  map[string][2]*invariant.Reader
}

// job is one that was asked for.
type job struct {
	id        string
	plan      plannedJob
	spec      api.JobSpec
	acked     bool
	cancelled bool // its end was asked for
	done      bool
}

const askLimit = 6 * time.Second

func newClients(m *mesh) *clients {
	c := &clients{mesh: m, history: invariant.NewHistory(), readers: map[string][2]*invariant.Reader{}}
	c.process = m.net.host("client", "10.0.3.1").boot()
	c.web = &http.Client{Transport: &http.Transport{DialContext: c.process.dial, MaxIdleConnsPerHost: 16, IdleConnTimeout: 20 * time.Second}}
	c.token, _ = tokenOf(api.RoleAdmin)
	return c
}

// patient is a client as people use it.
func (c *clients) patient() *client.Client {
	return client.New(client.Config{Servers: c.mesh.urls(), Token: c.token, HTTP: c.web, UserAgent: "patient", Retries: 40, CallTimeout: 10 * time.Second})
}

func (c *clients) ask(server, method, path string, body any) invariant.Answer {
	return invariant.Ask(context.Background(), c.web, c.token, server, method, path, body, askLimit)
}

// begin uploads a dataset, waiting for a leader, and lets the clients loose.
func (c *clients) begin() error {
	for n := 0; ; n++ {
		called := c.history.Now()
		a := c.ask(c.mesh.urls()[n%len(c.mesh.servers)], http.MethodPost, "/v1/datasets?name=first.csv", []byte("text,label\na,b\n"))
		if d, err := invariant.Decode[api.Dataset](a); err == nil {
			c.history.Add(0, called, invariant.Input{Kind: invariant.Publish, Key: "dataset/" + d.ID}, invariant.Output{Status: a.Status})
			c.dataset, c.datasets = d.ID, []string{d.ID}
			break
		} else if n == 100 {
			return fmt.Errorf("the mesh does not get ready: %w", err)
		}
		time.Sleep(500 * time.Millisecond)
	}
	life, stop := context.WithCancel(context.Background())
	c.stop = stop
	for i := range 3 {
		c.running.Go(func() { c.work(life, i+1, rand.New(rand.NewPCG(c.mesh.plan.seed, uint64(100+i)))) })
	}
	began := time.Now()
	for i, p := range c.mesh.plan.jobs {
		j := c.newJob(i, p)
		c.submits.Go(func() {
			time.Sleep(time.Until(began.Add(p.at)))
			c.submit(j, 1000+i, rand.New(rand.NewPCG(c.mesh.plan.seed, uint64(1000+i))))
		})
	}
	return nil
}

func (c *clients) anyServer(r *rand.Rand) string {
	return c.mesh.servers[r.IntN(len(c.mesh.servers))].url()
}

// newJob makes the spec of a planned job.
func (c *clients) newJob(number int, p plannedJob) *job {
	j := &job{id: fmt.Sprintf("01SMVT%010d%010d", c.mesh.plan.seed%1e10, number), plan: p} // a ULID by its form
	j.spec = api.JobSpec{ID: j.id, Name: "simulated", Dataset: c.dataset, Pipeline: &api.Pipeline{}}
	for i, s := range p.stages {
		tries := 20
		if s.ending != endsWell {
			tries = 2
		}
		j.spec.Pipeline.Nodes = append(j.spec.Pipeline.Nodes, api.StageSpec{
			Name: fmt.Sprintf("s%d", i), Command: s.command(), MaxAttempts: tries, MaxDisconnect: s.grace, Requires: api.Requirements{CPUCores: 1},
		})
		if i > 0 {
			j.spec.Pipeline.Edges = append(j.spec.Pipeline.Edges, api.Edge{From: fmt.Sprintf("s%d", i-1), To: fmt.Sprintf("s%d", i)})
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jobs = append(c.jobs, j)
	return j
}

// submit asks for a job until it is acknowledged, has its events read, and cancels
// it if so planned.
func (c *clients) submit(j *job, number int, r *rand.Rand) {
	for range 100 {
		if c.create(number, j, c.anyServer(r)) {
			break
		}
		time.Sleep(time.Duration(500+r.IntN(1000)) * time.Millisecond)
	}
	c.follow(j, r.IntN(3))
	if j.plan.cancelAt == 0 {
		return
	}
	time.Sleep(j.plan.cancelAt)
	c.mu.Lock()
	j.cancelled = true
	c.mu.Unlock()
	called := c.history.Now()
	a := c.ask(c.anyServer(r), http.MethodPost, "/v1/jobs/"+j.id+"/cancel", map[string]string{"reason": "simulated"})
	in := invariant.Input{Kind: invariant.Cancel, Key: "job/" + j.id}
	switch {
	case a.Unknown:
		c.history.Add(number, called, in, invariant.Output{Unknown: true})
	case a.Status == http.StatusNotFound || a.Status == http.StatusConflict:
		c.history.Add(number, called, in, invariant.Output{Status: a.Status})
	case a.Err == nil:
		d, _ := invariant.Decode[api.JobDetail](a)
		c.history.Add(number, called, in, invariant.Output{Status: 200, Phase: invariant.PhaseOf(string(d.State)), Index: d.Index})
	}
}

// create submits once; it says whether that was acknowledged.
func (c *clients) create(number int, j *job, server string) bool {
	called := c.history.Now()
	a := c.ask(server, http.MethodPost, "/v1/jobs", j.spec)
	in := invariant.Input{Kind: invariant.Create, Key: "job/" + j.id}
	if a.Unknown {
		c.history.Add(number, called, in, invariant.Output{Unknown: true})
		return false
	}
	d, err := invariant.Decode[api.JobDetail](a)
	if err != nil {
		if !a.Refused {
			c.mesh.fail("submit of %s: %v", j.id, err)
		}
		return false
	}
	c.history.Add(number, called, in, invariant.Output{Status: a.Status, Phase: invariant.PhaseOf(string(d.State)), Index: d.Index})
	c.mu.Lock()
	j.acked = true
	c.mu.Unlock()
	return true
}

// follow starts two readers of a job's events, which must read the same.
func (c *clients) follow(j *job, first int) {
	pair := [2]*invariant.Reader{invariant.NewReader(j.id), invariant.NewReader(j.id)}
	c.mu.Lock()
	c.readers[j.id] = pair
	c.mu.Unlock()
	// They are patient: that a stream ends is a part of what is checked.
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	var both sync.WaitGroup
	for i, r := range pair {
		r.Stay, r.Pause = time.Duration(1+3*i)*time.Second, 2*time.Second
		both.Go(func() { r.Follow(ctx, c.web, c.mesh.urls(), first+i, c.token) })
	}
	c.reading.Go(func() { both.Wait(); cancel() })
}

// work writes and reads registers and jobs.
func (c *clients) work(ctx context.Context, number int, r *rand.Rand) {
	for sleep(ctx, time.Duration(200+r.IntN(900))*time.Millisecond) {
		register := fmt.Sprintf("ghost-%d-%d", time.Duration(c.history.Now())/(30*time.Second), r.IntN(2))
		switch n := r.IntN(10); {
		case n < 4:
			c.write(number, register, r.IntN(2) == 0, c.anyServer(r))
		case n < 7:
			c.read(number, register, c.anyServer(r))
		case n == 7:
			c.publish(number, r)
		default:
			c.mu.Lock()
			j := c.jobs[r.IntN(len(c.jobs))]
			c.mu.Unlock()
			_, _ = c.get(number, j, c.anyServer(r))
		}
	}
}

// ghostKey is the key of a node that nobody runs: its drain is a register.
func (c *clients) ghostKey(name string) nodeagent.Identity {
	seed := sha256.Sum256(fmt.Appendf(nil, "%d %s", c.mesh.plan.seed, name))
	key := ed25519.NewKeyFromSeed(seed[:])
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	return nodeagent.Identity{Private: key, NodeID: fmt.Sprintf("n-%x", sum[:6])}
}

func (c *clients) write(number int, name string, v bool, server string) {
	id := c.ghostKey(name)
	called := c.history.Now()
	a := c.ask(server, http.MethodPost, "/v1/nodes/"+id.NodeID+"/drain", map[string]bool{"drain": v})
	in := invariant.Input{Kind: invariant.Write, Key: "node/" + id.NodeID, Value: v}
	switch {
	case a.Status == http.StatusNotFound: // nobody has enrolled it yet
		token, _ := tokenOf(api.RoleNode)
		ctx, cancel := context.WithTimeout(context.Background(), askLimit)
		defer cancel()
		_, _ = nodeagent.Enrol(ctx, id, name, client.New(client.Config{Servers: []string{server}, Token: token, HTTP: c.web, Retries: -1}))
	case a.Unknown:
		c.history.Add(number, called, in, invariant.Output{Unknown: true})
	case a.Err == nil:
		c.history.Add(number, called, in, invariant.Output{Status: a.Status})
	}
}

func (c *clients) read(number int, name string, server string) {
	id := c.ghostKey(name).NodeID
	called := c.history.Now()
	a := c.ask(server, http.MethodGet, "/v1/nodes/"+id, nil)
	if n, err := invariant.Decode[api.Node](a); err == nil {
		c.history.Add(number, called, invariant.Input{Kind: invariant.Read, Key: "node/" + id}, invariant.Output{Status: 200, Value: n.Drain, Index: n.Index})
	}
}

func (c *clients) publish(number int, r *rand.Rand) {
	called := c.history.Now()
	data := fmt.Appendf(nil, "text,label\nnumber %d,a\n", r.IntN(1000))
	a := c.ask(c.anyServer(r), http.MethodPost, "/v1/datasets?name=more.csv", data)
	d, err := invariant.Decode[api.Dataset](a)
	if err != nil {
		return // its id is not known; nothing was promised
	}
	c.history.Add(number, called, invariant.Input{Kind: invariant.Publish, Key: "dataset/" + d.ID}, invariant.Output{Status: a.Status})
	c.mu.Lock()
	c.datasets = append(c.datasets, d.ID)
	c.mu.Unlock()
}

// get reads a job; the error is a problem, or that nobody answered.
func (c *clients) get(number int, j *job, server string) (api.JobDetail, error) {
	called := c.history.Now()
	a := c.ask(server, http.MethodGet, "/v1/jobs/"+j.id, nil)
	in := invariant.Input{Kind: invariant.Get, Key: "job/" + j.id}
	if a.Status == http.StatusNotFound {
		c.history.Add(number, called, in, invariant.Output{Status: 404})
		return api.JobDetail{}, a.Err
	}
	d, err := invariant.Decode[api.JobDetail](a)
	if err == nil {
		c.history.Add(number, called, in, invariant.Output{Status: 200, Phase: invariant.PhaseOf(string(d.State)), Index: d.Index})
	}
	return d, err
}
