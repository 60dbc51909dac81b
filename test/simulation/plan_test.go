package simulation

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// plan is everything that a seed decides before the start: how large the mesh is,
// what clients ask for, and what breaks when.
type plan struct {
	seed            uint64
	servers, agents int
	// length is how long there are faults.
	length time.Duration
	jobs   []plannedJob
	faults []fault
}

// plannedJob is submitted at a time.
type plannedJob struct {
	at       time.Duration
	stages   []plannedStage
	cancelAt time.Duration // after the submit; 0: never
}

type plannedStage struct {
	lines  int
	pause  time.Duration
	ending string
	deaf   bool
	grace  string // how long it goes on while its node is away
	bare   bool   // it leaves no artifact: its end is reported without an upload
}

// fault is one thing that breaks and is made whole again.
type fault struct {
	at    time.Duration // from the beginning
	holds time.Duration
	kind  string
	// target and other are numbers of servers or agents; what "the leader" is shows
	// at its time.
	target, other int
	amount        float64
}

func (f fault) String() string {
	return fmt.Sprintf("%s %s (%d, %d, %.2f) for %s", f.at.Round(time.Millisecond), f.kind, f.target, f.other, f.amount, f.holds.Round(time.Millisecond))
}

// Kinds of faults.
const (
	killServer    = "a server is killed"
	killLeader    = "the leader is killed"
	killAll       = "all servers are killed"
	loseServer    = "a server's machine dies"
	handOver      = "the leader hands over"
	slowDisk      = "a server's disk is slow"
	hangingDisk   = "a server's disk hangs"
	wrongClock    = "a server comes back with a wrong clock"
	cutServers    = "a server is cut off from the others"
	cutLeader     = "the leader is cut off from the others"
	cutOneWay     = "what a server says reaches no other"
	deafServer    = "a server hears no other"
	cutHost       = "a server is cut off from everybody"
	cutStore      = "a server is cut off from the stores"
	resetConns    = "connections between two servers break"
	lossEverybody = "messages are lost everywhere"
	lossServer    = "messages of a server are lost"
	delay         = "messages are late"
	killAgent     = "an agent is killed"
	rebootAgent   = "an agent's machine is started anew"
	cutAgent      = "an agent is cut off"
	zombieAgent   = "an agent is cut off for longer than any grace"
	muteAgent     = "what an agent says reaches nobody"
	deafAgent     = "an agent hears nobody"
	cutAgentStore = "an agent is cut off from the stores"
)

// weighted is a kind of fault, how often it comes beside the others, and how long
// it holds at most, in seconds.
type weighted struct {
	kind   string
	weight int
	most   float64
}

var serverFaults = []weighted{
	{killServer, 8, 20}, {killLeader, 10, 15}, {killAll, 2, 10}, {loseServer, 5, 25}, {handOver, 6, 0}, {slowDisk, 4, 20}, {hangingDisk, 2, 15}, {wrongClock, 5, 5},
}

var netFaults = []weighted{
	{cutServers, 6, 20}, {cutLeader, 10, 20}, {cutOneWay, 6, 20}, {deafServer, 4, 20}, {cutHost, 4, 30}, {cutStore, 4, 15}, {resetConns, 5, 0},
	{lossEverybody, 4, 15}, {lossServer, 4, 20}, {delay, 4, 20},
}

var agentFaults = []weighted{
	{killAgent, 12, 10}, {rebootAgent, 4, 30}, {cutAgent, 6, 60}, {zombieAgent, 3, 0}, {muteAgent, 4, 60}, {deafAgent, 4, 60}, {cutAgentStore, 3, 30},
}

// newPlan follows from the seed alone.
func newPlan(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := plan{seed: seed, servers: 3, agents: 2 + r.IntN(3), length: 2 * time.Minute}
	for range 8 + r.IntN(6) {
		p.jobs = append(p.jobs, newJob(r, p.length))
	}
	slices.SortFunc(p.jobs, func(a, b plannedJob) int { return cmp.Compare(a.at, b.at) })
	lane := func(rest time.Duration, pick func() fault) {
		for at := time.Duration(r.Int64N(int64(rest))); ; {
			f := pick()
			f.at = at
			if f.at+f.holds > p.length && f.kind != zombieAgent {
				return
			}
			p.faults = append(p.faults, f)
			at += f.holds + rest/2 + time.Duration(r.Int64N(int64(rest)))
			if at > p.length {
				return
			}
		}
	}
	lane(8*time.Second, func() fault { return p.pick(r, serverFaults, p.servers) })
	lane(10*time.Second, func() fault { return p.pick(r, netFaults, p.servers) })
	for i := range p.agents {
		lane(25*time.Second, func() fault {
			f := p.pick(r, agentFaults, 1)
			f.target = i
			return f
		})
	}
	slices.SortStableFunc(p.faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	return p
}

// pick draws a fault of some kinds, at one of so many targets.
func (p *plan) pick(r *rand.Rand, from []weighted, targets int) fault {
	sum := 0
	for _, k := range from {
		sum += k.weight
	}
	n := r.IntN(sum)
	for _, k := range from {
		if n -= k.weight; n >= 0 {
			continue
		}
		f := fault{kind: k.kind, target: r.IntN(targets), amount: r.Float64()}
		f.other = (f.target + 1 + r.IntN(max(1, targets-1))) % targets
		// Mostly short, sometimes as long as it may be.
		share := r.Float64()
		f.holds = time.Duration(share * share * k.most * float64(time.Second))
		if k.kind == zombieAgent {
			f.holds = 150*time.Second + time.Duration(r.Int64N(int64(30*time.Second)))
		}
		return f
	}
	return fault{}
}

func newJob(r *rand.Rand, within time.Duration) plannedJob {
	j := plannedJob{at: time.Duration(r.Int64N(int64(within)))}
	for range 1 + r.IntN(3)/2 {
		s := plannedStage{lines: 1 + r.IntN(20), pause: time.Duration(r.Int64N(int64(3 * time.Second))), ending: endsWell, deaf: r.IntN(8) == 0}
		switch n := r.IntN(20); {
		case n == 0:
			s.ending = endsFailing
		case n == 1:
			s.ending = endsRefused
		case n == 2:
			s.ending = endsCrashed
		}
		s.grace = []string{"", "", "20s", "90s", "2m"}[r.IntN(5)]
		s.bare = s.lines%3 == 0
		j.stages = append(j.stages, s)
	}
	if r.IntN(6) == 0 {
		j.cancelAt = time.Duration(r.Int64N(int64(20 * time.Second)))
	}
	return j
}

// String lists the schedule, a line each.
func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d servers, %d agents, %d jobs, %d faults\n", p.seed, p.servers, p.agents, len(p.jobs), len(p.faults))
	for _, f := range p.faults {
		fmt.Fprintf(&b, "  %s\n", f)
	}
	return b.String()
}
