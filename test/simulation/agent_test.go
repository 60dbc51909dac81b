package simulation

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/nodeagent"
)

// agent is one node's agent over all its lives.
type agent struct {
	mesh    *mesh
	name    string
	id      string // of the node
	host    *host
	machine *machine

	mu    sync.Mutex
	lives int
	life  *agentLife
	// ending are lives that were killed and are being cleared away.
	ending sync.WaitGroup
}

type agentLife struct {
	process *process
	stop    context.CancelFunc
	work    sync.WaitGroup
}

// newAgent makes an agent's folder with a key that follows from the seed.
func newAgent(m *mesh, number int) (*agent, error) {
	name := fmt.Sprintf("a%d", number)
	a := &agent{mesh: m, name: name, host: m.net.host(name, fmt.Sprintf("10.0.2.%d", number))}
	a.machine = &machine{name: name, rand: m.shared(name), dir: filepath.Join(m.dir, name), table: map[string]*trainer{}, forgets: m.plant.forgetfulLauncher}
	seed := sha256.Sum256(fmt.Appendf(nil, "%d %s", m.plan.seed, name))
	key := pem.EncodeToMemory(&pem.Block{Type: "TUNEMESH NODE KEY", Bytes: seed[:]})
	if err := os.MkdirAll(a.machine.dir, 0o750); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(a.machine.dir, "node.key"), key, 0o600); err != nil {
		return nil, err
	}
	id, err := nodeagent.LoadIdentity(a.machine.dir)
	a.id = id.NodeID
	return a, err
}

// start begins a life on the folder that the one before left.
func (a *agent) start() {
	ctx, cancel := context.WithCancel(context.Background())
	a.mu.Lock()
	if a.life != nil {
		a.mu.Unlock()
		cancel()
		return
	}
	l := &agentLife{process: a.host.boot(), stop: cancel}
	a.life = l
	a.lives++
	a.mu.Unlock()
	l.work.Go(func() {
		if err := a.live(ctx, l); err != nil && ctx.Err() == nil {
			a.mesh.fail("agent %s ended by itself: %v", a.name, err)
		}
	})
}

// live joins as the command `tunemesh nodeagent` does, and runs the agent.
func (a *agent) live(ctx context.Context, l *agentLife) error {
	dir := a.machine.path("")
	connections := &http.Transport{DialContext: l.process.dial, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: time.Minute}
	defer connections.CloseIdleConnections()
	web := &http.Client{Transport: connections}
	id, err := nodeagent.LoadIdentity(dir)
	if err != nil {
		return err
	}
	member, err := nodeagent.LoadMembership(dir)
	if err != nil {
		return err
	}
	token, _ := tokenOf(api.RoleNode)
	enrol := func(ctx context.Context) (string, error) {
		c := client.New(client.Config{Servers: a.mesh.urls(), Token: token, HTTP: web})
		reply, err := nodeagent.Enrol(ctx, id, a.name, c)
		if err != nil {
			return "", err
		}
		return reply.Credential, nodeagent.Membership{Credential: reply.Credential, Servers: a.mesh.urls()}.Save(dir)
	}
	for member.Credential == "" {
		if member.Credential, err = enrol(ctx); err != nil {
			a.mesh.log.Warn("this node is not taken yet", "agent", a.name, "err", err)
			if !sleep(ctx, 2*time.Second) {
				return ctx.Err()
			}
		}
	}
	c := client.New(client.Config{Servers: a.mesh.urls(), Token: member.Credential, Renew: enrol, HTTP: web, UserAgent: a.name})
	agent, err := nodeagent.New(nodeagent.Config{
		Dir: dir, Name: a.name, Version: "simulated", Executable: "simulate", Launcher: launches{a.machine, dir, l.process}, HTTP: web,
		PollSpools: true, FlushInterval: time.Second, ProbeInterval: 15 * time.Second, MinFreeBytes: 1,
		GPULoads: func(context.Context) []api.GPULoad { return nil },
		Detect: func(context.Context, string) api.Capability {
			return api.Capability{OS: "linux", Arch: "amd64", CPU: api.CPU{Model: "simulated", Cores: 4}, MemoryBytes: 64 << 30, DiskBytes: 1 << 40,
				Engines: []api.Engine{{Name: "native", Available: true, Devices: []string{"cpu"}}}}
		},
		Logger: a.mesh.log.With("agent", a.name),
	}, c)
	if err != nil {
		return err
	}
	return agent.Run(ctx)
}

// kill ends the agent at once; with its machine, if so asked, and all stages on it.
func (a *agent) kill(machine bool) {
	a.mu.Lock()
	l := a.life
	a.life = nil
	next := fmt.Sprintf("%s-%d", filepath.Join(a.mesh.dir, a.name), a.lives)
	a.mu.Unlock()
	if l == nil {
		return
	}
	l.process.kill(machine)
	// The dead agent keeps its folder, and whatever it still does there; the next
	// one gets a copy as of now.
	a.machine.mu.Lock()
	err := copyTree(a.machine.dir, next)
	a.machine.dir = next
	a.machine.mu.Unlock()
	if err != nil {
		a.mesh.fail("the rig cannot copy the folder of %s: %v", a.name, err)
	}
	if machine {
		a.machine.reboot()
	}
	a.ending.Go(l.end)
}

func (l *agentLife) end() {
	l.stop()
	l.work.Wait()
}

// close ends the agent and its stages.
func (a *agent) close() {
	a.mu.Lock()
	l := a.life
	a.life = nil
	a.mu.Unlock()
	if l != nil {
		l.end()
	}
	a.machine.reboot()
	a.ending.Wait()
}
