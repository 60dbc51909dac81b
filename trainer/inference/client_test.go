package inference_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/inference"
	"github.com/tunemesh/tunemesh/trainer/inference/inferencepb"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
)

// What makes no sense is refused by the service with the field's name, whoever asks, and by
// the client before anything is sent.
func TestARequestIsCheckedBeforeItIsComputed(t *testing.T) {
	dir := t.TempDir()
	tunedtest.WriteModel(t, dir, tunedtest.Tickets(60), "F32")
	addr, _ := listen(t, load(t, tuned.Files{Base: dir}, "stored"), inference.Limits{})
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	bare, client, nobody := inferencepb.NewInferenceClient(conn), dial(t, addr), dial(t, "127.0.0.1:1")
	user := func(text string) []*inferencepb.Message { return []*inferencepb.Message{{Role: "user", Content: text}} }
	for name, c := range map[string]struct {
		in    *inferencepb.GenerateRequest
		field string // "": only the service knows
		want  string
	}{
		"both":             {&inferencepb.GenerateRequest{Prompt: "a", Messages: user("b")}, "prompt", "want one of them"},
		"temperature":      {&inferencepb.GenerateRequest{Prompt: "a", Temperature: -1}, "temperature", "is -1, want 0 to 100"},
		"top_p":            {&inferencepb.GenerateRequest{Prompt: "a", TopP: 2}, "top_p", "is 2, want 0 to 1"},
		"top_k":            {&inferencepb.GenerateRequest{Prompt: "a", TopK: -1}, "top_k", "is -1, want 0"},
		"max_tokens":       {&inferencepb.GenerateRequest{Prompt: "a", MaxTokens: -5}, "max_tokens", "is -5, want 0"},
		"empty stop":       {&inferencepb.GenerateRequest{Prompt: "a", Stop: []string{""}}, "stop", "has an empty string"},
		"many stops":       {&inferencepb.GenerateRequest{Prompt: "a", Stop: make([]string, 17)}, "stop", "has 17 strings"},
		"bytes":            {&inferencepb.GenerateRequest{Prompt: "a\ufffd\xffb"}, "prompt", "not UTF-8, the first after 4"},
		"bytes in message": {&inferencepb.GenerateRequest{Messages: user("\xe2\x82")}, "messages", "not UTF-8, the first after 0"},
		"bytes in stop":    {&inferencepb.GenerateRequest{Prompt: "a", Stop: []string{"\xff"}}, "stop", "not UTF-8"},
		"megabytes":        {&inferencepb.GenerateRequest{Prompt: strings.Repeat("a", 4<<20)}, "prompt", "at most 4194304 are taken"},
		"nothing":          {&inferencepb.GenerateRequest{}, "", "the prompt is empty"},
		"bad role":         {&inferencepb.GenerateRequest{Messages: []*inferencepb.Message{{Role: "robot", Content: "b"}}}, "", "robot"},
		"too long":         {&inferencepb.GenerateRequest{Prompt: strings.Repeat("zq", 300)}, "", "context 160 with the answer: shorten it by 441 tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			written := func(string) { t.Error("text was written") }
			if c.field != "" {
				var wrong contract.FieldError
				if _, err := nobody.Generate(t.Context(), c.in, written); !errors.As(err, &wrong) || wrong.Field != c.field || !strings.Contains(wrong.Message, c.want) {
					t.Errorf("the client says %v, want %s %s", err, c.field, c.want)
				}
			} else if _, err := client.Generate(t.Context(), c.in, written); !errors.Is(err, inference.ErrInvalid) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "rpc error") {
				t.Errorf("the client says %v, want %s", err, c.want)
			}
			if strings.HasPrefix(name, "bytes") || name == "megabytes" {
				return // gRPC itself takes none of these
			}
			answer, err := bare.Generate(t.Context(), c.in)
			if err == nil {
				_, err = answer.Recv()
			}
			if s := status.Convert(err); s.Code() != codes.InvalidArgument || !strings.Contains(s.Message(), c.want) {
				t.Errorf("the service says %v, want INVALID_ARGUMENT and %s", err, c.want)
			}
		})
	}
}

// half is a service that ends its answers without a finish.
type half struct {
	inferencepb.UnimplementedInferenceServer
}

func (half) Generate(_ *inferencepb.GenerateRequest, out grpc.ServerStreamingServer[inferencepb.GenerateResponse]) error {
	return out.Send(&inferencepb.GenerateResponse{Text: "half"})
}

// Whatever comes of a call is told apart, and none of it in gRPC's words.
func TestWhatComesOfACallIsSaid(t *testing.T) {
	ask := func(ctx context.Context, c *inference.Client) error {
		_, err := c.Generate(ctx, &inferencepb.GenerateRequest{Prompt: "a", MaxTokens: 400, Temperature: 1}, func(string) {})
		return err
	}
	other := func(t *testing.T, register func(*grpc.Server)) string {
		s := grpc.NewServer()
		register(s)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		t.Cleanup(func() { s.Stop(); <-done })
		return l.Addr().String()
	}
	for name, c := range map[string]struct {
		do   func(t *testing.T) error
		kind error
	}{
		"nobody there": {func(t *testing.T) error { return ask(t.Context(), dial(t, "127.0.0.1:1")) }, inference.ErrNoAnswer},
		"another service": {func(t *testing.T) error {
			return ask(t.Context(), dial(t, other(t, func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, health.NewServer()) })))
		}, inference.ErrNoService},
		"half an answer": {func(t *testing.T) error {
			return ask(t.Context(), dial(t, other(t, func(s *grpc.Server) { inferencepb.RegisterInferenceServer(s, half{}) })))
		}, inference.ErrBroken},
		"interrupted": {func(t *testing.T) error {
			c, _, _ := serve(t, inference.Limits{})
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return ask(ctx, c)
		}, context.Canceled},
		"what is loaded, of nobody": {func(t *testing.T) error {
			_, err := dial(t, "127.0.0.1:1").Model(t.Context())
			return err
		}, inference.ErrNoAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.do(t); !errors.Is(err, c.kind) || strings.Contains(err.Error(), "rpc error") {
				t.Errorf("%v, want %v", err, c.kind)
			}
		})
	}
}

// A service says what it has loaded: with the memory that Settle told of.
func TestTheModelIsDescribed(t *testing.T) {
	in := tunedtest.Job(t, tunedtest.Tickets(60), `{}`, "F32")
	tunedtest.AddAdapter(t, &in, 1, nil)
	files, err := tuned.Find(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		f         tuned.Files
		precision string
	}{{tuned.Files{Base: files.Base}, "stored"}, {files, "q8"}} {
		settled, err := inference.Settle(c.f, c.precision, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		l := load(t, c.f, c.precision)
		addr, _ := listen(t, l, inference.Limits{})
		info, err := dial(t, addr).Model(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.GetName() != "tiny" || info.GetParameters() < 1000 || int(info.GetContextLength()) != l.Network.Config().MaxPositions || info.GetArchitecture() != "LlamaForCausalLM" {
			t.Errorf("%v", info)
		}
		if info.GetPrecision() != c.precision || info.GetWeightBytes() != settled.Weights || info.GetRequestBytes() != settled.Request || settled.Weights == 0 || settled.Request == 0 {
			t.Errorf("%s: %v, settled was %+v", c.precision, info, settled)
		}
		a := info.GetAdapter()
		if tuned := c.f.Adapter != ""; info.GetTuned() != tuned || (a != nil) != tuned {
			t.Errorf("tuned %v, adapter %v", info.GetTuned(), a)
		}
		if a != nil && (a.GetRank() != 4 || a.GetAlpha() != 8 || len(a.GetTargetModules()) == 0 || a.GetParameters() < 100 || a.GetBytes() != 4*a.GetParameters() || a.GetBaseModel() == "") {
			t.Errorf("adapter %v", a)
		}
		if got, f := text(t, dial(t, addr), &inferencepb.GenerateRequest{Prompt: "my printer", MaxTokens: 4}); f.GetCompletionTokens() == 0 && got == "" && f.GetReason() != "stop" {
			t.Errorf("%q, %v", got, f)
		}
	}
}
