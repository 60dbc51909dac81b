package dispatch

import (
	"context"

	"github.com/tunemesh/tunemesh/api"
)

// term is one period of leading.
type term struct {
	config Config
}

func newTerm(c Config) *term { return &term{config: c} }

func (t *term) run(ctx context.Context) error { <-ctx.Done(); return nil }

func (t *term) heartbeat(string, api.Heartbeat) api.HeartbeatReply { return api.HeartbeatReply{} }

func (t *term) report(context.Context, uint64, api.AttemptReport) error { return ErrNotLeading }

func (t *term) waitReason(string, string) string { return "" }

func (t *term) fillNode(*api.Node) {}
