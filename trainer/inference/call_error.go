package inference

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What a call can come to, beside ErrBusy and ErrStopped; errors.Is tells them
// apart.
var (
	// ErrNoAnswer: nobody listens, or what listens speaks no gRPC.
	ErrNoAnswer = errors.New("no service answers")
	// ErrNoService: a gRPC service answers that is none of inference.
	ErrNoService = errors.New("what answers is no inference service")
	// ErrInvalid: the service refuses the request, which would be refused again.
	ErrInvalid = errors.New("the request is refused")
	// ErrBroken: the answer ended before its end.
	ErrBroken = errors.New("the answer broke off")
)

// CallError is a call that got no answer, or not the whole of it.
type CallError struct {
	Kind    error  // one of those above, the context's error, or nil: the service failed
	Message string // the service's words, without gRPC's
	cause   error
}

func (e *CallError) Error() string { return "inference: " + e.Message }

// Unwrap gives the kind and gRPC's own error.
func (e *CallError) Unwrap() []error {
	if e.Kind == nil {
		return []error{e.cause}
	}
	return []error{e.Kind, e.cause}
}

// answered makes an error of a person's of what gRPC says; begun says whether a
// part of the answer has come.
func answered(ctx context.Context, err error, begun bool) error {
	s := status.Convert(err)
	e := &CallError{Message: strings.TrimPrefix(s.Message(), "inference: "), cause: err}
	kind := func(k error) *CallError {
		e.Kind, e.Message = k, strings.TrimPrefix(k.Error(), "inference: ")
		return e
	}
	switch code := s.Code(); {
	case ctx.Err() != nil:
		return kind(ctx.Err())
	case code == codes.InvalidArgument:
		e.Kind = ErrInvalid
	case code == codes.ResourceExhausted:
		e.Kind = ErrBusy
	case code == codes.Unimplemented:
		return kind(ErrNoService)
	case code == codes.Unavailable && s.Message() == ErrStopped.Error():
		return kind(ErrStopped)
	case code == codes.Unavailable && !begun:
		return kind(ErrNoAnswer)
	case code == codes.Unavailable, code == codes.Unknown && begun: // Unknown: io.EOF
		return kind(ErrBroken)
	}
	return e
}
