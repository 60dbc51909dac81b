package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/failpoint"
)

// founding is how servers that were started with --bootstrap-expect N become one
// cluster. Each tells the others of itself; when one sees N servers without a
// log that expect N, the one with the lowest id asks the others to promise
// themselves to it, and founds with exactly these as voters once all have. A
// promise is kept on disk and given to one founder only, and founders' sets that
// overlap share a server that can promise itself once: so there are never two
// clusters, whatever each of them sees. A server that has a log, or hears of
// anybody who has one, founds nothing.
type founding struct {
	path string
	self func() api.ServerHello

	mu      sync.Mutex
	promise promise
	heard   map[string]heard // by id: servers that said hello
}

// promise is what stands on disk.
type promise struct {
	Founder string       `json:"founder,omitempty"`
	Servers []api.Server `json:"servers,omitempty"`
}

type heard struct {
	hello api.ServerHello
	at    time.Time
}

// heardFor is how long a server counts that was heard of and not asked.
const heardFor = 5 * time.Second

func openFounding(dir string, self func() api.ServerHello) (*founding, error) {
	f := &founding{path: filepath.Join(dir, "founding.json"), self: self, heard: map[string]heard{}}
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &f.promise)
	}
	if err != nil {
		return nil, fmt.Errorf("controlplane: %s: %w", f.path, err)
	}
	return f, nil
}

// hello takes another server's hello and answers with what is known here.
func (f *founding) hello(theirs api.ServerHello) api.HelloReply {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	self := f.self()
	if theirs.ID != "" && theirs.ID != self.ID {
		f.heard[theirs.ID] = heard{theirs, now}
	}
	reply := api.HelloReply{ServerHello: self}
	reply.Founding = f.promise.Founder
	for _, id := range slices.Sorted(maps.Keys(f.heard)) {
		if h := f.heard[id]; now.Sub(h.at) < heardFor && id != theirs.ID {
			reply.Others = append(reply.Others, h.hello)
		}
	}
	return reply
}

// agree gives this server's promise, or says why not.
func (f *founding) agree(r api.FoundingRequest) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	self := f.self()
	switch {
	case self.HasState:
		return &api.Problem{Type: api.ProblemConflict, Status: http.StatusConflict, Title: "Conflict", Detail: "this server has a Raft log: it belongs to a cluster"}
	case !slices.ContainsFunc(r.Servers, func(s api.Server) bool { return s.ID == self.ID }) || len(r.Servers) != self.Expect:
		return &api.Problem{Type: api.ProblemConflict, Status: http.StatusConflict, Title: "Conflict", Detail: fmt.Sprintf("this server wants to be one of %d, you name %d", self.Expect, len(r.Servers))}
	case f.promise.Founder != "" && f.promise.Founder != r.Founder:
		return &api.Problem{Type: api.ProblemConflict, Status: http.StatusConflict, Title: "Conflict",
			Detail: fmt.Sprintf("this server has promised itself to %s", f.promise.Founder), Hint: "if that server is gone for good, remove " + f.path + " on this host and start it again"}
	}
	p := promise{Founder: r.Founder, Servers: r.Servers}
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := writePrivate(f.path, string(data)); err != nil {
		return err
	}
	f.promise = p
	return failpoint.At(failpoint.PromiseKept)
}

// seek returns when it is clear what this server is: founders is the set to found
// with, or nil where a cluster is there that it has to join. report says now and
// then what is waited for.
func (f *founding) seek(ctx context.Context, join []string, p *peers, report func(string)) (founders []api.Server, err error) {
	last, said := "", time.Time{}
	for {
		founders, found, waiting := f.look(ctx, join, p)
		if found {
			return founders, nil
		}
		if waiting != last || time.Since(said) > 30*time.Second {
			last, said = waiting, time.Now()
			report(waiting)
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return nil, fmt.Errorf("controlplane: %s: %w", waiting, err)
		}
	}
}

// ask says hello to every address at once.
func (f *founding) ask(ctx context.Context, join []string, p *peers) (answers map[string]api.ServerHello, silent []string) {
	self := f.self()
	f.mu.Lock()
	self.Founding = f.promise.Founder
	addresses := slices.Clone(join)
	answers = map[string]api.ServerHello{}
	for id, h := range f.heard {
		if time.Since(h.at) < heardFor {
			answers[id] = h.hello
			addresses = append(addresses, h.hello.URL)
		}
	}
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	slices.Sort(addresses)
	for _, address := range slices.Compact(addresses) {
		asking.Go(func() {
			var reply api.HelloReply
			err := p.call(ctx, http.MethodPost, address, "/v1/cluster/hello", self, &reply)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				silent = append(silent, address)
				return
			}
			for _, h := range append(reply.Others, reply.ServerHello) {
				if h.ID != self.ID {
					answers[h.ID] = h
				}
			}
		})
	}
	asking.Wait()
	slices.Sort(silent)
	return answers, silent
}

func (f *founding) look(ctx context.Context, join []string, p *peers) (founders []api.Server, found bool, waiting string) {
	self := f.self()
	answers, silent := f.ask(ctx, join, p)
	set := []api.Server{self.Server}
	var others []string
	for _, id := range slices.Sorted(maps.Keys(answers)) {
		h := answers[id]
		switch {
		case h.HasState:
			return nil, true, ""
		case h.Expect == self.Expect:
			set = append(set, h.Server)
		default:
			others = append(others, fmt.Sprintf("%s expects %d", h.Name, h.Expect))
		}
	}
	slices.SortFunc(set, func(a, b api.Server) int { return strings.Compare(a.ID, b.ID) })
	switch {
	case self.Expect == 0:
		return nil, false, fmt.Sprintf("waiting for a cluster to join; no answer from %s", strings.Join(silent, ", "))
	case len(set) < self.Expect:
		waiting = fmt.Sprintf("waiting for %d of %d servers to found a cluster with", self.Expect-len(set), self.Expect)
		if len(silent) > 0 {
			waiting += "; no answer from " + strings.Join(silent, ", ")
		}
		if len(others) > 0 {
			waiting += "; " + strings.Join(others, ", ") + ", this server " + fmt.Sprint(self.Expect)
		}
		return nil, false, waiting
	case len(set) > self.Expect:
		var names []string
		for _, s := range set {
			names = append(names, s.Name+" ("+s.ID+")")
		}
		return nil, false, fmt.Sprintf("%d servers want to found a cluster of %d: stop those that do not belong to it: %s", len(set), self.Expect, strings.Join(names, ", "))
	case set[0].ID != self.ID:
		return nil, false, fmt.Sprintf("waiting for %s (%s) to found the cluster", set[0].Name, set[0].ID)
	}
	request := api.FoundingRequest{Founder: self.ID, Servers: set}
	if err := f.agree(request); err != nil {
		return nil, false, "cannot found the cluster: " + err.Error()
	}
	for _, s := range set[1:] {
		if err := p.call(ctx, http.MethodPost, s.URL, "/v1/cluster/founding", request, nil); err != nil {
			return nil, false, fmt.Sprintf("%s does not agree to found the cluster: %v", s.Name, err)
		}
	}
	if err := failpoint.At(failpoint.FoundersAgreed); err != nil {
		return nil, false, "cannot found the cluster: " + err.Error()
	}
	return set, true, ""
}

// waitingHandler serves a server that has not found its cluster yet: only other
// servers get an answer, people the reason to wait.
func (f *founding) waitingHandler(isPeer func(string) bool, why func() string) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		if p, ok := v.(*api.Problem); ok {
			w.Header().Set("Content-Type", "application/problem+json")
			if p.Status == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", "1")
			}
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	peer := func(w http.ResponseWriter, r *http.Request, in any) bool {
		if !isPeer(r.Header.Get(api.PeerHeader)) {
			answer(w, http.StatusForbidden, &api.Problem{Type: api.ProblemForbidden, Status: http.StatusForbidden, Title: "Forbidden", Detail: "this is for servers of the cluster: do both have the same cluster secret?"})
			return false
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(in); err != nil {
			answer(w, http.StatusBadRequest, &api.Problem{Type: api.ProblemInvalid, Status: http.StatusBadRequest, Title: "Bad Request", Detail: err.Error()})
			return false
		}
		return true
	}
	mux.HandleFunc("POST /v1/cluster/hello", func(w http.ResponseWriter, r *http.Request) {
		var in api.ServerHello
		if peer(w, r, &in) {
			answer(w, http.StatusOK, f.hello(in))
		}
	})
	mux.HandleFunc("POST /v1/cluster/founding", func(w http.ResponseWriter, r *http.Request) {
		var in api.FoundingRequest
		if !peer(w, r, &in) {
			return
		}
		var p *api.Problem
		switch err := f.agree(in); {
		case err == nil:
			w.WriteHeader(http.StatusNoContent)
		case errors.As(err, &p):
			answer(w, p.Status, p)
		default:
			answer(w, http.StatusInternalServerError, &api.Problem{Status: http.StatusInternalServerError, Title: "Internal Server Error", Detail: err.Error()})
		}
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusServiceUnavailable, &api.Problem{Type: api.ProblemNotLeader, Status: http.StatusServiceUnavailable, Title: "Service Unavailable", Detail: why()})
	})
	return mux
}
