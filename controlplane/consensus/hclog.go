package consensus

import (
	"context"
	"io"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// bridge gives Raft a logger that writes to ours.
func bridge(log *slog.Logger) hclog.Logger {
	level := hclog.Error
	for _, l := range []hclog.Level{hclog.Warn, hclog.Info, hclog.Debug} {
		if log.Enabled(context.Background(), slogLevel(l)) {
			level = l
		}
	}
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: level})
	l.RegisterSink(sink{log, level})
	return l
}

type sink struct {
	log   *slog.Logger
	level hclog.Level
}

// Accept implements hclog.SinkAdapter. What Raft calls info (each step of an
// election, each snapshot) is detail to us, and how every server starts is no
// reason to warn anybody.
func (s sink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	if level < s.level {
		return
	}
	to := slogLevel(level)
	if level == hclog.Info || strings.HasPrefix(msg, "heartbeat timeout reached") {
		to = slog.LevelDebug
	}
	s.log.Log(context.Background(), to, msg, args...)
}

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelError
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Info:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}
