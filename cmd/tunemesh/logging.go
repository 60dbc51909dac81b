package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/tracing"
)

// logFlags say what is logged and how.
type logFlags struct{ level, format string }

func (f *logFlags) define(cmd *cobra.Command, level string) {
	cmd.Flags().StringVar(&f.level, "log-level", level, "debug, info, warn or error")
	cmd.Flags().StringVar(&f.format, "log-format", "text", "text or json: one object a line, with the fields job, stage, fence, node where they apply")
}

// logger logs to standard error. It is made the default, for what libraries
// say.
func (f *logFlags) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return nil, exitError{2, fmt.Errorf("--log-level %q: want debug, info, warn or error", f.level)}
	}
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler
	switch f.format {
	case "text":
		handler = slog.NewTextHandler(os.Stderr, options)
	case "json":
		handler = slog.NewJSONHandler(os.Stderr, options)
	default:
		return nil, exitError{2, fmt.Errorf("--log-format %q: want text or json", f.format)}
	}
	log := slog.New(handler)
	slog.SetDefault(log)
	return log, nil
}

// startTracing has this process's spans exported, if the environment names a
// collector. One that does not answer costs nothing but a moment at the end.
func startTracing(ctx context.Context, service string) (stop func(), err error) {
	flush, err := tracing.Start(ctx, service, version)
	if err != nil {
		return nil, exitError{2, err}
	}
	return func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if err := flush(last); err != nil {
			slog.Warn("the last spans were not delivered", "err", err)
		}
	}, nil
}
