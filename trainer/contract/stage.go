package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// Stage is a built-in stage: it reads in, reports through emit and returns its
// result. An error return is the same as a result with status error; a
// *Error keeps its class, and the artifacts named with it are kept. When ctx is
// cancelled (SIGTERM) the stage saves a checkpoint if it can and returns ctx's
// error.
type Stage func(ctx context.Context, in Input, emit *Emitter) (Result, error)

// Run executes one stage process: input from the environment, events to out,
// result to the path in TUNEMESH_RESULT. It returns the process's exit code.
func Run(ctx context.Context, stage Stage, agent string, out io.Writer) int {
	emit := NewEmitter(out, agent, time.Now)
	resultPath := os.Getenv(EnvResult)
	in, err := ReadInput()
	if err != nil || resultPath == "" {
		if err == nil {
			err = fmt.Errorf("contract: %s is not set", EnvResult)
		}
		slog.Error("stage cannot start", "error", err)
		return 2
	}
	result, err := runGuarded(ctx, stage, in, emit)
	if err != nil {
		failure := AsError(err)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			failure = &Error{Class: ClassInterrupted, Code: "INTERRUPTED", Message: "the stage was told to stop", Hint: "it continues from its last checkpoint when it is tried again"}
		}
		emit.Emit(Event{Level: LevelError, ErrorCode: failure.Code, Message: failure.Error(), Fields: errorFields(failure)})
		// What a stage that fails names is kept: a report on the data it refused.
		result = Result{Status: StatusError, Error: failure, Artifacts: result.Artifacts}
	} else {
		result.Status = StatusSuccess
	}
	if err := WriteResult(resultPath, result); err != nil {
		slog.Error("stage cannot write its result", "error", err)
		return 2
	}
	if result.Status == StatusError {
		return 1
	}
	return 0
}

// runGuarded turns a panic into an internal error, so that the dead letter
// says more than an exit code.
func runGuarded(ctx context.Context, stage Stage, in Input, emit *Emitter) (r Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Error{Class: ClassInternal, Code: "PANIC", Message: fmt.Sprint(p)}
			slog.Error("stage panicked", "stage", in.Stage, "panic", p)
		}
	}()
	return stage(ctx, in, emit)
}

func errorFields(e *Error) map[string]any {
	fields := map[string]any{"class": string(e.Class)}
	for k, v := range e.Figures {
		fields[k] = v
	}
	if e.Row > 0 {
		fields["row"] = e.Row
	}
	if e.Column != "" {
		fields["column"] = e.Column
	}
	if e.Field != "" {
		fields["field"] = e.Field
	}
	if e.Hint != "" {
		fields["hint"] = e.Hint
	}
	return fields
}
