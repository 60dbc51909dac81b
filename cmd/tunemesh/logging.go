package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
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
