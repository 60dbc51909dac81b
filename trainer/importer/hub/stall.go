package hub

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Timer is what Config.AfterFunc gives; *time.Timer is one.
type Timer interface {
	Reset(d time.Duration) bool
	Stop() bool
}

// stalledError says that a server keeps a connection open and sends nothing.
type stalledError struct{ idle time.Duration }

func (e *stalledError) Error() string {
	return fmt.Sprintf("the hub has sent nothing for %v", e.idle)
}

// watch gives up a request that brings nothing for a while: TCP alone waits for good.
type watch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  Timer
	idle   time.Duration
}

// watch begins with a request; its answer has to begin within Idle.
func (c *Client) watch(parent context.Context) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(parent)
	w := &watch{ctx: ctx, cancel: cancel, idle: c.c.Idle}
	w.timer = c.c.AfterFunc(w.idle, func() { cancel(&stalledError{w.idle}) })
	return ctx, w
}

// cause gives the watch's own reason for an error that it brought about.
func (w *watch) cause(err error) error {
	if stalled, ok := context.Cause(w.ctx).(*stalledError); ok && err != nil && err != io.EOF {
		return stalled
	}
	return err
}

func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// watchedBody is an answer's body. Only while it is read does the clock run: what is done
// with the bytes may take as long as it does.
type watchedBody struct {
	io.ReadCloser
	watch *watch
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.timer.Reset(b.watch.idle)
	n, err := b.ReadCloser.Read(p)
	b.watch.timer.Stop()
	return n, b.watch.cause(err)
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.watch.end()
	return err
}
