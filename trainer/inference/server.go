package inference

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/inference/inferencepb"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/template"
)

const (
	defaultTokens = 256
	// drain is how long answers in progress may take when the service stops.
	drain = 5 * time.Second
)

// Server answers the gRPC API from one loaded model.
type Server struct {
	inferencepb.UnimplementedInferenceServer
	model  *Loaded
	engine *engine
	grpc   *grpc.Server
	health *health.Server
}

// NewServer serves a model, which stays the caller's to close after Stop.
func NewServer(l *Loaded, limits Limits) *Server {
	s := &Server{model: l, engine: startEngine(l, limits, time.Now), health: health.NewServer(),
		grpc: grpc.NewServer(grpc.MaxRecvMsgSize(maxRequest))}
	inferencepb.RegisterInferenceServer(s.grpc, s)
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	return s
}

// Serve answers until Stop.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("inference: serve: %w", err)
	}
	return nil
}

// Run answers until ctx ends, and stops then.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
		s.Stop()
		return <-served
	}
}

// Stop takes no more requests, lets those that run come to an end for a while,
// and then ends them.
func (s *Server) Stop() {
	s.health.Shutdown()
	done := make(chan struct{})
	go func() { defer close(done); s.grpc.GracefulStop() }()
	timer := time.NewTimer(drain)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
	s.engine.close()
	s.grpc.Stop()
	<-done
}

// Model tells what is loaded.
func (s *Server) Model(context.Context, *inferencepb.ModelRequest) (*inferencepb.ModelInfo, error) {
	c := s.model.Network.Config()
	info := &inferencepb.ModelInfo{Name: s.model.Name, Parameters: parameters(c), ContextLength: int32(c.MaxPositions),
		Template: s.model.Template.Name(), Tuned: s.model.Tuned, LoadSeconds: s.model.Took.Seconds(),
		Precision: s.model.Settled.Precision, WeightBytes: s.model.Settled.Weights, RequestBytes: s.model.Settled.Request}
	if a := s.model.Adapter; a != nil {
		info.Adapter = &inferencepb.Adapter{BaseModel: a.BaseModel, Rank: int32(a.LoRA.Rank), Alpha: a.LoRA.Alpha, Rslora: a.LoRA.RSLoRA,
			TargetModules: a.LoRA.TargetModules, Parameters: a.Parameters, Bytes: a.Bytes}
	}
	if len(c.Architectures) > 0 {
		info.Architecture = c.Architectures[0]
	}
	return info, nil
}

// Generate writes on.
func (s *Server) Generate(in *inferencepb.GenerateRequest, out grpc.ServerStreamingServer[inferencepb.GenerateResponse]) error {
	r, err := s.prepare(out.Context(), in)
	if err != nil {
		return err
	}
	times := timing{asked: time.Now(), prompt: len(r.prompt)}
	if err := s.engine.submit(r); err != nil {
		return asStatus(err)
	}
	text := &stream{decoder: s.model.Tokenizer, stops: in.GetStop()}
	reason := ""
	for step := range r.out {
		switch {
		case step.err != nil:
			return asStatus(step.err)
		case step.reason != "":
			reason = step.reason
			continue
		}
		times.note(step)
		piece, stopped := text.add(step.token)
		if piece != "" {
			if err := out.Send(&inferencepb.GenerateResponse{Text: piece}); err != nil {
				return err // the client has gone; its context ends the computing
			}
		}
		if stopped {
			return out.Send(&inferencepb.GenerateResponse{Finish: times.finish("stop")})
		}
	}
	if piece := text.rest(); piece != "" {
		if err := out.Send(&inferencepb.GenerateResponse{Text: piece}); err != nil {
			return err
		}
	}
	return out.Send(&inferencepb.GenerateResponse{Finish: times.finish(reason)})
}

// prepare checks a request and turns its text into tokens.
func (s *Server) prepare(ctx context.Context, in *inferencepb.GenerateRequest) (*request, error) {
	invalid := func(format string, args ...any) (*request, error) {
		return nil, status.Errorf(codes.InvalidArgument, format, args...)
	}
	var wrong contract.FieldError
	if errors.As(Check(in), &wrong) {
		return invalid("%s %s", wrong.Field, wrong.Message)
	}
	tokens, err := s.tokens(in)
	if err != nil {
		return invalid("%v", err)
	}
	room := s.model.Network.Config().MaxPositions - len(tokens)
	switch {
	case len(tokens) == 0:
		return invalid("the prompt is empty")
	case room < 1:
		return invalid("the prompt has %d tokens, and the model's context %d with the answer: shorten it by %d tokens at least", len(tokens), len(tokens)+room, 1-room)
	}
	want, p := int(in.GetMaxTokens()), float64(in.GetTopP())
	if want == 0 {
		want = defaultTokens
	}
	if p == 0 {
		p = 1
	}
	return &request{ctx: ctx, prompt: tokens, most: min(want, room),
		sampler: newSampler(sampling{temperature: float64(in.GetTemperature()), topK: int(in.GetTopK()), topP: p}, in.GetSeed())}, nil
}

func (s *Server) tokens(in *inferencepb.GenerateRequest) ([]int32, error) {
	if len(in.GetMessages()) == 0 {
		return s.model.Tokenizer.Encode(in.GetPrompt(), true), nil
	}
	messages := make([]template.Message, 0, len(in.GetMessages()))
	for _, m := range in.GetMessages() {
		messages = append(messages, template.Message{Role: m.GetRole(), Content: m.GetContent()})
	}
	text, err := s.model.Template.Prompt(messages)
	if err != nil {
		return nil, err
	}
	// The template writes its special tokens itself.
	return s.model.Tokenizer.Encode(text, false), nil
}

// timing is when what came of a request.
type timing struct {
	asked, began, first, last time.Time
	prompt, tokens            int
}

func (t *timing) note(s step) {
	if t.tokens == 0 {
		t.began, t.first = s.began, s.at
	}
	t.last = s.at
	t.tokens++
}

// finish sums up a request that is over.
func (t *timing) finish(reason string) *inferencepb.Finish {
	f := &inferencepb.Finish{Reason: reason, PromptTokens: int32(t.prompt), CompletionTokens: int32(t.tokens)}
	if t.tokens == 0 {
		return f
	}
	f.QueueSeconds, f.PromptSeconds, f.DecodeSeconds = t.began.Sub(t.asked).Seconds(), t.first.Sub(t.began).Seconds(), t.last.Sub(t.first).Seconds()
	if t.tokens > 1 && f.DecodeSeconds > 0 {
		f.TokensPerSecond = float64(t.tokens-1) / f.DecodeSeconds
	}
	return f
}

// parameters counts a model's weights; tied ones count once.
func parameters(c model.Config) (n int64) {
	for _, t := range c.Tensors() {
		size := int64(1)
		for _, d := range t.Shape {
			size *= int64(d)
		}
		n += size
	}
	return n
}

func asStatus(err error) error {
	switch {
	case errors.Is(err, ErrBusy):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, ErrStopped):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Internal, err.Error())
}
