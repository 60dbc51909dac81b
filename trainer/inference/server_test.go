package inference_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tunemesh/tunemesh/trainer/inference"
	"github.com/tunemesh/tunemesh/trainer/inference/inferencepb"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// load opens a model in a precision.
func load(t *testing.T, f tuned.Files, precision string) *inference.Loaded {
	t.Helper()
	settled, err := inference.Settle(f, precision, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	l, err := inference.Load("tiny", f, "", settled)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// listen serves a model until the test ends, and says where.
func listen(t *testing.T, l *inference.Loaded, limits inference.Limits) (addr string, s *inference.Server) {
	t.Helper()
	s = inference.NewServer(l, limits)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		l.Close()
	})
	return listener.Addr().String(), s
}

// dial is a client until the test ends.
func dial(t *testing.T, addr string) *inference.Client {
	t.Helper()
	c, err := inference.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// serve starts a service of a tiny model.
func serve(t *testing.T, limits inference.Limits) (*inference.Client, *inference.Loaded, *inference.Server) {
	t.Helper()
	dir := t.TempDir()
	tunedtest.WriteModel(t, dir, tunedtest.Tickets(60), "F32")
	l := load(t, tuned.Files{Base: dir}, "stored")
	addr, s := listen(t, l, limits)
	return dial(t, addr), l, s
}

func text(t *testing.T, c *inference.Client, in *inferencepb.GenerateRequest) (string, *inferencepb.Finish) {
	t.Helper()
	var b strings.Builder
	f, err := c.Generate(t.Context(), in, func(piece string) { b.WriteString(piece) })
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), f
}

// The service writes token for token what the trainer's own greedy decoding
// does.
func TestGreedyTextIsTheTrainersOwn(t *testing.T) {
	c, l, _ := serve(t, inference.Limits{})
	prompt := l.Tokenizer.Encode("my printer is", true)
	want, err := l.Network.NewSession().Greedy(prompt, 20, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, f := text(t, c, &inferencepb.GenerateRequest{Prompt: "my printer is", MaxTokens: 20})
	if !strings.HasPrefix(l.Tokenizer.Decode(want, true), strings.TrimRight(got, "\uFFFD")) || got == "" {
		t.Errorf("wrote %q, the trainer %q", got, l.Tokenizer.Decode(want, true))
	}
	if f.PromptTokens != int32(len(prompt)) || f.CompletionTokens == 0 || f.CompletionTokens > 20 || f.Reason != "length" && f.Reason != "stop" {
		t.Errorf("finish %v", f)
	}
}

// Requests that run side by side get the same text as one that runs alone.
func TestRequestsSideBySideDoNotDisturbEachOther(t *testing.T) {
	c, _, _ := serve(t, inference.Limits{Concurrent: 4})
	prompts := []string{"my printer", "the invoice", "i cannot log in", "refund please", "vpn is slow"}
	in := func(i int) *inferencepb.GenerateRequest {
		return &inferencepb.GenerateRequest{Prompt: prompts[i], MaxTokens: 24, Temperature: .9, Seed: uint64(i)}
	}
	var alone []string
	for i := range prompts {
		s, _ := text(t, c, in(i))
		alone = append(alone, s)
	}
	together := make([]string, len(prompts))
	var all sync.WaitGroup
	for i := range prompts {
		all.Go(func() {
			var b strings.Builder
			if _, err := c.Generate(t.Context(), in(i), func(piece string) { b.WriteString(piece) }); err != nil {
				t.Error(err)
			}
			together[i] = b.String()
		})
	}
	all.Wait()
	if !slices.Equal(alone, together) {
		t.Errorf("alone %q, together %q", alone, together)
	}
}

func TestTooManyRequestsAreRefusedNotKept(t *testing.T) {
	c, _, _ := serve(t, inference.Limits{Concurrent: 1, Waiting: 1})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var mu sync.Mutex
	count := map[codes.Code]int{}
	for range 12 {
		all.Go(func() {
			_, err := c.Generate(ctx, &inferencepb.GenerateRequest{Prompt: "a", MaxTokens: 400, Temperature: 1}, func(string) {})
			mu.Lock()
			defer mu.Unlock()
			count[status.Code(err)]++
		})
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		mu.Lock()
		refused := count[codes.ResourceExhausted]
		mu.Unlock()
		if refused > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is refused")
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	all.Wait()
	// The service goes on after clients that left; it sees a little later that they have.
	for {
		var said strings.Builder
		_, err := c.Generate(t.Context(), &inferencepb.GenerateRequest{Prompt: "my printer", MaxTokens: 4}, func(piece string) { said.WriteString(piece) })
		if status.Code(err) == codes.ResourceExhausted && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil || said.Len() == 0 {
			t.Errorf("%q is written, %v", said.String(), err)
		}
		return
	}
}

func TestStoppingEndsWhatRuns(t *testing.T) {
	c, _, s := serve(t, inference.Limits{})
	began := make(chan struct{})
	once := sync.OnceFunc(func() { close(began) })
	ended := make(chan error, 1)
	go func() {
		for {
			_, err := c.Generate(context.Background(), &inferencepb.GenerateRequest{Prompt: "a", MaxTokens: 400, Temperature: 1}, func(string) { once() })
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	<-began
	s.Stop()
	if code := status.Code(<-ended); code != codes.Unavailable {
		t.Errorf("ended with %v, want UNAVAILABLE", code)
	}
}
