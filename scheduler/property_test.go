package scheduler_test

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/scheduler"
)

func genView(t *rapid.T) scheduler.View {
	var v scheduler.View
	small := func(name string, most int) int { return rapid.IntRange(0, most).Draw(t, name) }
	for i := range small("nodes", 6) {
		n := box(fmt.Sprintf("n%d", i), 1+small("cores", 7))
		n.Alive, n.Drain = small("dead", 5) > 0, small("drain", 5) == 0
		n.Capability.MemoryBytes = int64(small("memory", 8))
		n.Capability.DiskBytes = int64(small("disk", 8))
		if small("peft", 2) == 0 {
			n.Capability.Engines = append(n.Capability.Engines, api.Engine{Name: "peft", Available: small("works", 3) > 0})
		}
		if small("label", 1) == 0 {
			n.Labels = map[string]string{"zone": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "zone")}
		}
		for g := range small("gpus", 3) {
			n.Capability.GPUs = append(n.Capability.GPUs, api.GPU{Index: g, MemoryBytes: int64(1 + small("gpu memory", 3))})
			if small("gpu used", 3) == 0 {
				n.Used.GPUs = append(n.Used.GPUs, g)
			}
		}
		n.Used.CPUCores, n.Used.MemoryBytes = small("used cores", n.Capability.CPU.Cores), int64(small("used memory", int(n.Capability.MemoryBytes)))
		if small("trains", 4) == 0 {
			n.Used.Slots = []string{scheduler.SlotTraining}
		}
		v.Nodes = append(v.Nodes, n)
	}
	for i := range small("requests", 25) {
		r := scheduler.Request{JobID: fmt.Sprintf("j%d", i/2), Stage: fmt.Sprintf("s%d", i%2),
			Kind:     rapid.SampledFrom([]string{"custom", "training", "evaluation"}).Draw(t, "kind"),
			Priority: small("priority", 2), Since: noon.Add(time.Duration(small("since", 3)) * time.Minute)}
		if small("demanding", 2) > 0 {
			r.Requires = api.Requirements{CPUCores: small("c", 3), MemoryBytes: int64(small("m", 3)), DiskBytes: int64(small("d", 3)),
				Engine: rapid.SampledFrom([]string{"", "native", "peft"}).Draw(t, "engine")}
			if small("wants gpu", 2) == 0 {
				r.Requires.GPUs, r.Requires.GPUMemoryBytes = small("g", 2), int64(small("gm", 3))
			}
			if small("wants label", 4) == 0 {
				r.Requires.Labels = map[string]string{"zone": "a"}
			}
		}
		if small("backoff", 9) == 0 {
			r.NotBefore = noon.Add(time.Second)
		}
		v.Requests = append(v.Requests, r)
	}
	return v
}

// reference is the policy written down once more as plainly as possible: each
// request in turn looks at each node.
type reference struct {
	nodes []scheduler.Node
}

type need struct {
	cores, gpus int
	slot        bool
	api.Requirements
}

func needOf(r scheduler.Request) need {
	n := need{Requirements: r.Requires, cores: r.Requires.CPUCores, gpus: r.Requires.GPUs}
	if n.GPUMemoryBytes > 0 && n.gpus == 0 {
		n.gpus = 1
	}
	n.slot = (r.Kind == "training" || r.Kind == "evaluation") && n.gpus == 0
	if n.cores == 0 && !n.slot {
		n.cores = 1
	}
	return n
}

func (f *reference) freeGPUs(n scheduler.Node) []api.GPU {
	return slices.DeleteFunc(slices.Clone(n.Capability.GPUs), func(g api.GPU) bool { return slices.Contains(n.Used.GPUs, g.Index) })
}

func (f *reference) cards(n scheduler.Node, q need) []api.GPU {
	cards := slices.DeleteFunc(f.freeGPUs(n), func(g api.GPU) bool { return g.MemoryBytes < q.GPUMemoryBytes })
	slices.SortStableFunc(cards, func(a, b api.GPU) int { return cmp.Compare(a.MemoryBytes, b.MemoryBytes) })
	return cards
}

func (f *reference) fits(n scheduler.Node, q need) bool {
	for k, v := range q.Labels {
		if n.Labels[k] != v {
			return false
		}
	}
	return n.Alive && !n.Drain && (q.Engine == "" || n.Capability.HasEngine(q.Engine)) &&
		n.Capability.DiskBytes >= q.DiskBytes && n.Capability.MemoryBytes-n.Used.MemoryBytes >= q.MemoryBytes &&
		n.Capability.CPU.Cores-n.Used.CPUCores >= q.cores && !(q.slot && len(n.Used.Slots) > 0) &&
		(q.gpus == 0 || len(f.cards(n, q)) >= q.gpus)
}

func (f *reference) place(r scheduler.Request) (string, bool) {
	q := needOf(r)
	best, bestScore := -1, []int64(nil)
	for i, n := range f.nodes {
		if !f.fits(n, q) {
			continue
		}
		var cards int64
		if q.gpus > 0 {
			for _, g := range f.cards(n, q)[:q.gpus] {
				cards += g.MemoryBytes
			}
		}
		cores := int64(n.Capability.CPU.Cores - n.Used.CPUCores - q.cores)
		if q.slot && q.CPUCores == 0 {
			cores = -cores
		}
		score := []int64{cards, int64(len(f.freeGPUs(n)) - q.gpus), cores, n.Capability.MemoryBytes - n.Used.MemoryBytes - q.MemoryBytes}
		if best < 0 || slices.Compare(score, bestScore) < 0 {
			best, bestScore = i, score
		}
	}
	if best < 0 {
		return "", false
	}
	n := &f.nodes[best]
	if q.gpus > 0 {
		for _, g := range f.cards(*n, q)[:q.gpus] {
			n.Used.GPUs = append(slices.Clone(n.Used.GPUs), g.Index)
		}
	}
	n.Used.CPUCores += q.cores
	n.Used.MemoryBytes += q.MemoryBytes
	if q.slot {
		n.Used.Slots = append(slices.Clone(n.Used.Slots), scheduler.SlotTraining)
	}
	return n.ID, true
}

func TestThePlanIsThatOfThePlainPolicy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := genView(t)
		f := reference{nodes: slices.Clone(v.Nodes)}
		requests := slices.Clone(v.Requests)
		slices.SortFunc(requests, func(a, b scheduler.Request) int {
			return cmp.Or(b.Priority-a.Priority, a.Since.Compare(b.Since), strings.Compare(a.JobID, b.JobID), strings.Compare(a.Stage, b.Stage))
		})
		var want []string
		for _, r := range requests {
			if r.NotBefore.After(noon) {
				continue
			}
			if id, ok := f.place(r); ok {
				want = append(want, r.JobID+r.Stage+"@"+id)
			}
		}
		var got []string
		for _, p := range scheduler.Plan(v, noon).Placements {
			got = append(got, p.JobID+p.Stage+"@"+p.NodeID)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
	})
}

func TestAPlanNeverGoesOverCapacityAndLeavesNothingIdle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := genView(t)
		d := scheduler.Plan(v, noon)
		requests, nodes := map[string]scheduler.Request{}, map[string]*scheduler.Node{}
		for _, r := range v.Requests {
			requests[r.JobID+r.Stage] = r
		}
		after := slices.Clone(v.Nodes)
		for i := range after {
			nodes[after[i].ID] = &after[i]
		}
		f := &reference{}
		for _, p := range d.Placements {
			r, n := requests[p.JobID+p.Stage], nodes[p.NodeID]
			delete(requests, p.JobID+p.Stage)
			q := needOf(r)
			if !f.fits(*n, q) {
				t.Fatalf("%+v does not fit on %+v", r, n)
			}
			if p.Devices.CPUCores != q.cores || p.Devices.MemoryBytes != q.MemoryBytes || len(p.Devices.GPUs) != q.gpus || p.Devices.Engine != q.Engine {
				t.Fatalf("%+v reserves %+v", r, p.Devices)
			}
			for _, g := range p.Devices.GPUs {
				if slices.Contains(n.Used.GPUs, g) || n.Capability.GPUs[g].MemoryBytes < q.GPUMemoryBytes {
					t.Fatalf("GPU %d of %+v for %+v", g, n, r)
				}
				n.Used.GPUs = append(slices.Clone(n.Used.GPUs), g)
			}
			n.Used.CPUCores += p.Devices.CPUCores
			n.Used.MemoryBytes += p.Devices.MemoryBytes
			if p.Slot != "" {
				n.Used.Slots = append(slices.Clone(n.Used.Slots), p.Slot)
			}
		}
		for _, w := range d.Waits {
			r, ok := requests[w.JobID+w.Stage]
			if !ok || w.Reason == "" {
				t.Fatalf("%+v is answered twice or without a reason", w)
			}
			delete(requests, w.JobID+w.Stage)
			if r.NotBefore.After(noon) {
				continue
			}
			for _, n := range after {
				if f.fits(n, needOf(r)) {
					t.Fatalf("%+v waits (%s) though %+v could take it", r, w.Reason, n)
				}
			}
		}
		if len(requests) != 0 {
			t.Fatalf("without an answer: %+v", requests)
		}
	})
}

func TestTheOrderOfTheInputIsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := genView(t)
		shuffled := scheduler.View{
			Nodes:    rapid.Permutation(v.Nodes).Draw(t, "nodes"),
			Requests: rapid.Permutation(v.Requests).Draw(t, "requests"),
		}
		a, b := scheduler.Plan(v, noon), scheduler.Plan(shuffled, noon)
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v\n%+v", a, b)
		}
	})
}

func TestAPlanLeavesItsInputAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := genView(t)
		before := fmt.Sprintf("%+v", v)
		scheduler.Plan(v, noon)
		if after := fmt.Sprintf("%+v", v); after != before {
			t.Fatalf("was %s\nis  %s", before, after)
		}
	})
}
