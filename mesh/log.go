package mesh

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"sync/atomic"
)

// bridge gives memberlist a logger that writes to ours, until closing is set:
// what it says of its own closed sockets helps nobody.
func bridge(to *slog.Logger, closing *atomic.Bool) *log.Logger {
	return log.New(lines{to, closing}, "", 0)
}

// lines reads memberlist's "[WARN] memberlist: text" lines. What it calls info
// is detail to us.
type lines struct {
	log     *slog.Logger
	closing *atomic.Bool
}

func (l lines) Write(p []byte) (int, error) {
	if l.closing.Load() {
		return len(p), nil
	}
	text := bytes.TrimSpace(p)
	level := slog.LevelDebug
	for prefix, lv := range map[string]slog.Level{"[ERR] ": slog.LevelWarn, "[WARN] ": slog.LevelInfo, "[INFO] ": slog.LevelDebug, "[DEBUG] ": slog.LevelDebug} {
		if rest, ok := bytes.CutPrefix(text, []byte(prefix)); ok {
			text, level = rest, lv
			break
		}
	}
	l.log.Log(context.Background(), level, string(bytes.TrimPrefix(text, []byte("memberlist: "))))
	return len(p), nil
}
