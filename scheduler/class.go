package scheduler

// class is all requests with one demand, and the machines that can take them.
type class struct {
	demand demand
	// eligible are the machines that suit the demand, whatever runs there;
	// suits says it of each machine.
	eligible []int32
	suits    []bool
	// heap has the machines that fit, the best first, and stale entries.
	heap []candidate
	// seen is how much of planner.changed the heap knows of.
	seen int
	// exhausted: nothing fits any more, and during a plan room only shrinks.
	exhausted bool
	reason    string
}

// candidate is a machine as it was at a version.
type candidate struct {
	score   score
	machine int32
	version int
}

func (a candidate) less(b candidate) bool {
	if a.score != b.score {
		return a.score.less(b.score)
	}
	return a.machine < b.machine
}

func newClass(p *planner, d demand) *class {
	c := &class{demand: d, suits: make([]bool, len(p.machines))}
	for i := range p.machines {
		if p.machines[i].suits(d) {
			c.suits[i] = true
			c.eligible = append(c.eligible, int32(i))
		}
	}
	c.rebuild(p)
	return c
}

func (c *class) candidate(p *planner, i int32) candidate {
	m := &p.machines[i]
	return candidate{score: m.score(c.demand), machine: i, version: m.version}
}

func (c *class) rebuild(p *planner) {
	c.heap = c.heap[:0]
	for _, i := range c.eligible {
		if p.machines[i].fits(c.demand) {
			c.heap = append(c.heap, c.candidate(p, i))
		}
	}
	for i := len(c.heap)/2 - 1; i >= 0; i-- {
		c.down(i)
	}
	c.seen = len(p.changed)
}

// best returns the machine with the least left over.
func (c *class) best(p *planner) (int32, bool) {
	if c.exhausted {
		return 0, false
	}
	c.catchUp(p)
	for len(c.heap) > 0 {
		top := c.heap[0]
		if p.machines[top.machine].version == top.version {
			return top.machine, true
		}
		c.pop()
	}
	c.exhausted = true
	return 0, false
}

// catchUp adds the machines that changed since the class's last turn as they
// are now; their older entries are known as stale by their version.
func (c *class) catchUp(p *planner) {
	if len(p.changed)-c.seen > len(c.eligible) {
		c.rebuild(p)
		return
	}
	// Stages are packed, so that the same machine changes many times in a row;
	// only how it is now matters.
	p.round++
	for _, i := range p.changed[c.seen:] {
		if !c.suits[i] || p.looked[i] == p.round {
			continue
		}
		p.looked[i] = p.round
		if p.machines[i].fits(c.demand) {
			c.heap = append(c.heap, c.candidate(p, i))
			c.up(len(c.heap) - 1)
		}
	}
	c.seen = len(p.changed)
}

func (c *class) up(i int) {
	h := c.heap
	for i > 0 {
		parent := (i - 1) / 2
		if !h[i].less(h[parent]) {
			return
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

func (c *class) down(i int) {
	h := c.heap
	for {
		least := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < len(h) && h[child].less(h[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

func (c *class) pop() {
	last := len(c.heap) - 1
	c.heap[0] = c.heap[last]
	c.heap = c.heap[:last]
	c.down(0)
}
