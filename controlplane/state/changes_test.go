package state_test

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// Who reads only what changed since the last time knows what a reader of
// everything knows, whatever the log and however many entries lie between.
func TestReadingWhatChangedIsAsGoodAsReadingEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, err := state.New()
		if err != nil {
			t.Fatal(err)
		}
		backlogs := map[string]state.Backlog{}
		type reserved struct {
			index uint64
			usage state.Usage
		}
		nodes := map[string]reserved{}
		var since, restores uint64
		var fences []uint64
		for index := uint64(1); index <= uint64(rapid.IntRange(1, 80).Draw(t, "length")); index++ {
			entry, err := state.Encode(genCommand(t, fences))
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Apply(index, entry)
			if err != nil {
				t.Fatal(err)
			}
			if r.Fence > 0 {
				fences = append(fences, r.Fence)
			}
			for _, p := range r.Placed {
				if p.Fence != 0 {
					fences = append(fences, p.Fence)
				}
			}
			if rapid.IntRange(0, 9).Draw(t, "restore") == 0 {
				var snapshot bytes.Buffer
				before := s.Hash()
				if err := s.WriteSnapshot(&snapshot); err != nil {
					t.Fatal(err)
				}
				if err := s.Restore(&snapshot); err != nil {
					t.Fatal(err)
				}
				if after := s.Hash(); after != before {
					t.Fatal("the count of restores is in the snapshot")
				}
			}
			if !rapid.Bool().Draw(t, "look") {
				continue
			}
			v := s.At()
			if n := v.Restores(); n != restores {
				restores, since = n, 0
				clear(backlogs)
				clear(nodes)
			}
			for _, b := range v.BacklogsSince(since) {
				backlogs[b.JobID] = b
			}
			since = v.Index()
			for job := range backlogs {
				if _, ok := v.Backlog(job); !ok {
					delete(backlogs, job) // trimmed
				}
			}
			all := map[string]state.Backlog{}
			for _, b := range v.TransitionBacklogs() {
				all[b.JobID] = b
			}
			if !maps.Equal(all, backlogs) {
				t.Fatalf("followed %+v, there are %+v", backlogs, all)
			}

			usages := map[string]state.Usage{}
			for _, u := range v.Usages() {
				usages[u.NodeID] = u
			}
			desired, each := map[string]uint64{}, []string{}
			v.EachNode(func(n *api.Node, index uint64) {
				desired[n.ID], each = index, append(each, n.ID)
				if _, want := v.Desired(n.ID); index != want {
					t.Fatalf("the desired set of %s changed at %d, want %d", n.ID, index, want)
				}
			})
			if !slices.IsSorted(each) || len(each) != len(v.Nodes()) {
				t.Fatalf("each node: %q of %d", each, len(v.Nodes()))
			}
			for _, n := range v.Nodes() {
				if at := desired[n.ID]; nodes[n.ID].index != at || at == 0 {
					nodes[n.ID] = reserved{at, v.UsageOf(n.ID)}
				}
				want, got := usages[n.ID], nodes[n.ID].usage
				if want.CPUCores != got.CPUCores || want.MemoryBytes != got.MemoryBytes || want.Attempts != got.Attempts ||
					!slices.Equal(want.GPUs, got.GPUs) || !slices.Equal(want.Slots, got.Slots) {
					t.Fatalf("node %s has %+v reserved, the one that follows thinks %+v", n.ID, want, got)
				}
			}
			var ready []string
			v.EachReady(func(j *api.Job, st *api.Stage) { ready = append(ready, j.ID+"/"+st.Name) })
			var want []string
			for _, st := range v.ReadyStages() {
				want = append(want, st.JobID+"/"+st.Name)
			}
			if !slices.Equal(ready, want) {
				t.Fatalf("ready are %q, want %q", ready, want)
			}
		}
	})
}

// An attempt's input is what its pipeline says comes before it, in its order.
func TestAncestorsAreThoseOfThePipeline(t *testing.T) {
	m := newMesh(t)
	p := api.Pipeline{}
	for _, name := range []string{"f", "e", "d", "c", "b", "a"} {
		p.Nodes = append(p.Nodes, api.StageSpec{Name: name})
	}
	for _, e := range []string{"ab", "ac", "bd", "cd", "ef"} {
		p.Edges = append(p.Edges, api.Edge{From: e[:1], To: e[1:]})
	}
	m.must(state.CreateJob{Spec: api.JobSpec{ID: "j"}, Pipeline: p, At: m.now})
	for _, n := range p.Nodes {
		st, err := m.store.Stage("j", n.Name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, before := range m.store.Ancestors(st) {
			got = append(got, before.Name)
		}
		if want := p.Ancestors(n.Name); !slices.Equal(got, want) {
			t.Errorf("before %s come %q, want %q", n.Name, got, want)
		}
	}
}
