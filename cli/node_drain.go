package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
)

// How often a draining node is looked at, and how often a wait that sees nothing
// change says that it goes on.
const (
	drainPoll   = time.Second
	drainRemind = 30 * time.Second
)

// drainOptions are the flags of node drain.
type drainOptions struct {
	undo, wait bool
	timeout    time.Duration
}

func (a *app) nodeDrain() *cobra.Command {
	var o drainOptions
	c := &cobra.Command{
		Use:   "drain ID",
		Short: "Place no new attempts on a node, or again with --undo",
		Long: `Place no new attempts on a node. What runs there goes on to its end; with --wait the command ends
when nothing runs there any more, so that the machine can be switched off. Ctrl-C ends the waiting,
not the draining. Exit code 1 says that the --timeout came first.
With --json: api.Node.`,
		Example: `  tunemesh node drain n-5f0c2b9a7e31
  tunemesh node drain ws-anna --wait --timeout 2h && ssh ws-anna sudo reboot
  tunemesh node drain n-5f0c2b9a7e31 --undo`,
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.complete(nodeIDs),
		RunE: a.online(func(c *call) error {
			switch {
			case o.undo && o.wait:
				return usage(c.cmd, "--undo and --wait do not go together")
			case o.timeout != 0 && !o.wait:
				return usage(c.cmd, "--timeout is for --wait")
			case o.timeout < 0:
				return usage(c.cmd, "--timeout is %s, want a duration such as 2h", o.timeout)
			}
			return c.drain(o)
		}),
	}
	c.Flags().BoolVar(&o.undo, "undo", false, "let the node take attempts again")
	c.Flags().BoolVar(&o.wait, "wait", false, "wait until nothing runs on the node")
	c.Flags().DurationVar(&o.timeout, "timeout", 0, "with --wait: give up waiting after this `duration` (default: never)")
	return c
}

func (c *call) drain(o drainOptions) error {
	n, err := c.node(c.args[0])
	if err != nil {
		return err
	}
	if n, err = c.mesh.DrainNode(c.ctx, n.ID, !o.undo); err != nil {
		return err
	}
	if o.wait {
		if n, err = c.awaitIdle(n, o.timeout); err != nil {
			return err
		}
	}
	who := n.ID + " (" + format.Clean(n.Name) + ")"
	switch {
	case c.json:
		return c.printJSON(n)
	case o.undo:
		fmt.Fprintf(c.out, "%s takes attempts again.\n", who)
	case o.wait:
		fmt.Fprintf(c.out, "%s runs nothing and gets no new attempts.\n", who)
	default:
		fmt.Fprintf(c.out, "%s gets no new attempts; still running there: %s.\n", who, format.Plural(n.Running, "attempt"))
	}
	return nil
}

// awaitIdle returns when a node runs nothing. A mesh that does not answer for a
// while, as in an election, is waited for.
func (c *call) awaitIdle(n api.Node, timeout time.Duration) (api.Node, error) {
	ctx := c.ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	who := n.ID + " (" + format.Clean(n.Name) + ")"
	shown, still, silent := "", 0, false
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for n.Running > 0 {
		line := fmt.Sprintf("%s drains; still running there: %s", who, format.Plural(n.Running, "attempt"))
		switch {
		case silent:
			line = "the mesh does not answer; waiting for it"
		case n.Status != api.NodeAlive:
			line += "; the node is " + string(n.Status)
		}
		if line != shown || still >= int(drainRemind/drainPoll) {
			fmt.Fprintln(c.err, line)
			shown, still = line, 0
		}
		select {
		case <-ctx.Done():
			return n, c.stopped(ctx, who, n)
		case <-tick.C:
			still++
		}
		next, err := c.mesh.Node(ctx, n.ID)
		silent = err != nil && nobodyThere(err)
		switch {
		case err == nil:
			n = next
		case ctx.Err() != nil:
			return n, c.stopped(ctx, who, n)
		case !silent:
			return n, err
		}
		if !n.Drain {
			return n, &failure{code: ExitRefused, title: who + " drains no longer: somebody let it take attempts again"}
		}
	}
	return n, nil
}

// stopped says that the node goes on draining although nobody waits any more.
func (c *call) stopped(ctx context.Context, who string, n api.Node) error {
	left := format.Plural(n.Running, "attempt")
	undo := "`tunemesh node drain " + n.ID + " --undo` lets it take attempts again"
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &failure{code: ExitJobFailed, title: fmt.Sprintf("the time is over and %s still runs %s; it goes on draining", who, left), hint: undo, cause: ctx.Err()}
	}
	return &failure{code: ExitInterrupted, title: fmt.Sprintf("interrupted; %s still runs %s and goes on draining", who, left), hint: undo, cause: ctx.Err()}
}
