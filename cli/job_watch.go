package cli

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/summary"
	"github.com/tunemesh/tunemesh/cli/view"
)

func (a *app) jobWatch() *cobra.Command {
	return &cobra.Command{
		Use:   "watch ID",
		Short: "Watch a job live until it ends",
		Long: `Watch a job until it ends: a live view in a terminal, plain lines in a pipe. It waits for servers
that go away for a while. Ctrl-C ends the watching, not the job.
The exit code is 0 when the job succeeded, 1 when it failed or was cancelled.
With --json: one object per line, {"event": api.Event} for each event and {"job": api.JobDetail} at
the end.`,
		Example: `  tunemesh job watch 01JDCK3V5W8M2N4P6Q7R8S9T0V
  tunemesh job watch 01JDCK3V5W8M2N4P6Q7R8S9T0V | tee job.log
  tunemesh job watch 01JDCK3V5W8M2N4P6Q7R8S9T0V --json | jq -c .event.loss`,
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.complete(jobIDs),
		RunE:              a.online(func(c *call) error { return c.watch(c.args[0]) }),
	}
}

// watch shows a job to its end and makes its state the exit code.
func (c *call) watch(id string) error {
	ctx, stop := signal.NotifyContext(c.ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	back := "tunemesh job watch " + id
	job, err := Watch(ctx, c.mesh, id, WatchOptions{
		Out: c.out, Screen: &c.scr, JSON: c.json, Now: c.Now,
		Hint: "Ctrl-C leaves it running; again: " + back,
	})
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(c.err, "The job goes on. Come back with: %s\n", back)
		return &failure{code: ExitInterrupted, silent: true, cause: err}
	case errors.Is(err, syscall.EPIPE): // head has seen enough
		return &failure{code: ExitOK, silent: true}
	case err != nil:
		return err
	}
	if !c.json {
		if err := c.verdict(job); err != nil {
			return err
		}
	}
	if job.State != api.JobSucceeded {
		return &failure{code: ExitJobFailed, silent: true}
	}
	return nil
}

// verdict says what a job came to: its summary, or what went wrong and how to
// go on.
func (c *call) verdict(job api.JobDetail) error {
	fmt.Fprintln(c.out)
	if job.State == api.JobSucceeded {
		return c.summary(job)
	}
	explained := false
	next := []string{"Look closer: tunemesh job show " + job.ID}
	for _, s := range job.Stages {
		if s.Error != nil && s.State == api.StageFailed {
			fmt.Fprintf(c.out, "Stage %s failed after %s:\n", s.Name, format.Plural(max(s.Tries, 1), "attempt"))
			c.lines(view.ErrorLines(*s.Error, c.scr.Width, c.scr.Style))
			next = append(next, goOn(*s.Error, job.ID)...)
			explained = true
		}
	}
	if job.Reason != "" && !explained {
		fmt.Fprintln(c.out, format.Indent("", format.Clean(job.Reason), c.scr.Width))
	}
	if job.State == api.JobCancelled {
		next = append(next, "Go on with it: tunemesh job resume "+job.ID)
	}
	c.lines(next)
	return nil
}

// summary prints what a finished job came to. That the artifacts cannot be
// listed is no reason to say nothing.
func (c *call) summary(job api.JobDetail) error {
	artifacts, err := c.mesh.Artifacts(c.ctx, job.ID)
	if err != nil {
		artifacts = nil
	}
	return summary.Write(c.out, job, artifacts, summary.Options{Width: c.scr.Width, Style: c.scr.Style})
}
