package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/api"
)

// hopeful is a server that waits for its cluster.
type hopeful struct {
	dir   string
	hello api.ServerHello
	*founding
}

func newHopeful(dir, id string, expect int) (*hopeful, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	h := &hopeful{dir: dir, hello: api.ServerHello{Server: api.Server{ID: id, Name: id}, Expect: expect}}
	return h, h.restart()
}

// restart is what SIGKILL and a new start leave of a server: its disk.
func (h *hopeful) restart() (err error) {
	h.founding, err = openFounding(h.dir, func() api.ServerHello { return h.hello })
	return err
}

// Whatever sets of servers want to found, in whatever order their requests
// arrive and whoever is restarted in between: of two sets that share a server,
// one at most gets all promises.
func TestOverlappingFoundersNeverBothFound(t *testing.T) {
	both := 0
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "founding-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		const servers, expect = 5, 3
		var all []*hopeful
		for i := range servers {
			h, err := newHopeful(filepath.Join(dir, fmt.Sprint(i)), fmt.Sprintf("s-%d", i), expect)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, h)
		}
		// Each founder asks the servers of its set. 3 of 5 always overlap.
		type request struct{ founder, server int }
		sets := map[int][]int{}
		var requests []request
		for founder := range rapid.IntRange(2, 4).Draw(t, "founders") {
			set := rapid.Permutation([]int{0, 1, 2, 3, 4}).Draw(t, "set")[:expect]
			if !slices.Contains(set, founder) {
				set[0] = founder
			}
			sets[founder] = set
			for _, s := range set {
				requests = append(requests, request{founder, s}, request{founder, s}) // asked again and again
			}
		}
		promises := map[int]map[int]bool{}
		for _, r := range rapid.Permutation(requests).Draw(t, "order") {
			var named []api.Server
			for _, s := range sets[r.founder] {
				named = append(named, all[s].hello.Server)
			}
			err := all[r.server].agree(api.FoundingRequest{Founder: all[r.founder].hello.ID, Servers: named})
			var refused *api.Problem
			if err != nil && !errors.As(err, &refused) {
				t.Fatal(err)
			}
			if err == nil {
				if promises[r.founder] == nil {
					promises[r.founder] = map[int]bool{}
				}
				promises[r.founder][r.server] = true
			}
			if rapid.Bool().Draw(t, "restart") {
				if err := all[r.server].restart(); err != nil {
					t.Fatal(err)
				}
			}
		}
		founded := 0
		for _, given := range promises {
			if len(given) == expect {
				founded++
			}
		}
		if founded > 1 {
			t.Fatalf("%d clusters: %v", founded, promises)
		}
		both += founded
	})
	if both == 0 {
		t.Error("no cluster was ever founded: the test is too easy")
	}
}

func TestAPromiseIsGivenToOneFounderAndOutlivesTheServer(t *testing.T) {
	h, err := newHopeful(t.TempDir(), "s-2", 3)
	if err != nil {
		t.Fatal(err)
	}
	set := []api.Server{{ID: "s-1"}, {ID: "s-2"}, {ID: "s-3"}}
	refused := func(why string, r api.FoundingRequest) {
		t.Helper()
		var p *api.Problem
		if err := h.agree(r); !errors.As(err, &p) || p.Status != 409 || !strings.Contains(p.Detail, why) {
			t.Errorf("want a refusal that says %q: %v", why, err)
		}
	}
	refused("one of 3", api.FoundingRequest{Founder: "s-1", Servers: set[:2]})
	refused("one of 3", api.FoundingRequest{Founder: "s-1", Servers: []api.Server{{ID: "s-1"}, {ID: "s-3"}, {ID: "s-4"}}})
	for range 2 { // a repeat is the same promise
		if err := h.agree(api.FoundingRequest{Founder: "s-1", Servers: set}); err != nil {
			t.Fatal(err)
		}
	}
	refused("promised itself to s-1", api.FoundingRequest{Founder: "s-3", Servers: set})
	if err := h.restart(); err != nil {
		t.Fatal(err)
	}
	refused("promised itself to s-1", api.FoundingRequest{Founder: "s-3", Servers: set})
	if reply := h.founding.hello(api.ServerHello{}); reply.Founding != "s-1" {
		t.Errorf("the answer to a hello does not tell of the promise: %+v", reply)
	}
	info, err := os.Stat(filepath.Join(h.dir, "founding.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	h.hello.HasState = true
	refused("Raft log", api.FoundingRequest{Founder: "s-1", Servers: set})
	if err := os.WriteFile(filepath.Join(h.dir, "founding.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if h.restart() == nil {
		t.Error("a damaged promise counts as none: the server could promise itself twice")
	}
}

// Three servers that find each other over HTTP found one cluster, and exactly
// one of them founds it; a fourth keeps them from it.
func TestServersThatFindEachOtherFoundOnce(t *testing.T) {
	const secret = "servers know this"
	start := func(id string, expect int) (*hopeful, string) {
		h, err := newHopeful(t.TempDir(), id, expect)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewServer(h.waitingHandler(func(s string) bool { return s == secret }, func() string { return "waiting" }))
		t.Cleanup(s.Close)
		h.hello.URL = s.URL
		return h, s.URL
	}
	p := newPeers(nil, func() string { return secret })
	defer p.close()
	var all []*hopeful
	var addresses []string
	for _, id := range []string{"s-3", "s-1", "s-2"} {
		h, url := start(id, 3)
		all, addresses = append(all, h), append(addresses, url)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	// A server without the secret is told nothing.
	wrong := newPeers(nil, func() string { return "guess" })
	defer wrong.close()
	if _, silent := all[0].ask(ctx, addresses[1:], wrong); len(silent) != 2 {
		t.Errorf("who does not know the secret is answered; silent: %v", silent)
	}

	var mu sync.Mutex
	founders := map[string][]api.Server{}
	var looking sync.WaitGroup
	for _, h := range all {
		looking.Go(func() {
			for range 20 {
				set, found, _ := h.look(ctx, addresses, p)
				if found {
					mu.Lock()
					founders[h.hello.ID] = set
					mu.Unlock()
					return
				}
			}
		})
	}
	looking.Wait()
	if len(founders) != 1 || len(founders["s-1"]) != 3 {
		t.Errorf("founders are %v, want s-1 alone with three servers", founders)
	}

	fourth, _ := start("s-0", 3)
	set, found, waiting := fourth.look(ctx, addresses, p)
	if found || !strings.Contains(waiting, "4 servers want to found a cluster of 3") {
		t.Errorf("a fourth founds with %v: %s", set, waiting)
	}
}
