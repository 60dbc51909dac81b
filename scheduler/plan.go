package scheduler

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// planner is one plan in the making.
type planner struct {
	machines []machine
	classes  map[demand]*class
	// changed lists the machines that placements went to, in order.
	changed []int32
	// looked[i] == round: the class that catches up has looked at machine i.
	looked []int
	round  int
}

// Plan decides which requests are placed now, and says of all others why
// they wait.
func Plan(v View, now time.Time) Decision {
	p := &planner{classes: map[demand]*class{}, machines: machinesOf(v.Nodes), looked: make([]int, len(v.Nodes))}
	requests := slices.Clone(v.Requests)
	slices.SortFunc(requests, func(a, b Request) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.Since.Compare(b.Since),
			strings.Compare(a.JobID, b.JobID), strings.Compare(a.Stage, b.Stage))
	})
	var plan Decision
	var waiting []*class // of plan.Waits, nil where the reason is there already
	for _, r := range requests {
		if r.NotBefore.After(now) {
			plan.Waits = append(plan.Waits, Wait{r.JobID, r.Stage, "the next attempt may start at " + r.NotBefore.UTC().Format(time.RFC3339)})
			waiting = append(waiting, nil)
			if plan.NextAt.IsZero() || r.NotBefore.Before(plan.NextAt) {
				plan.NextAt = r.NotBefore
			}
			continue
		}
		c := p.class(demandOf(r))
		i, ok := c.best(p)
		if !ok {
			plan.Waits = append(plan.Waits, Wait{JobID: r.JobID, Stage: r.Stage})
			waiting = append(waiting, c)
			continue
		}
		m := &p.machines[i]
		plan.Placements = append(plan.Placements, Placement{
			JobID: r.JobID, Stage: r.Stage, NodeID: m.ID, Devices: m.place(c.demand), Slot: c.demand.slot,
		})
		p.changed = append(p.changed, int32(i))
	}
	for i, c := range waiting {
		if c != nil {
			plan.Waits[i].Reason = c.why(p)
		}
	}
	return plan
}

// machinesOf sorts the nodes by id, so that their order in the view is nothing.
func machinesOf(nodes []Node) []machine {
	order := make([]*Node, len(nodes))
	for i := range nodes {
		order[i] = &nodes[i]
	}
	slices.SortFunc(order, func(a, b *Node) int { return strings.Compare(a.ID, b.ID) })
	machines := make([]machine, len(order))
	for i, n := range order {
		machines[i] = newMachine(n)
	}
	return machines
}

func (p *planner) class(d demand) *class {
	c := p.classes[d]
	if c == nil {
		c = newClass(p, d)
		p.classes[d] = c
	}
	return c
}
