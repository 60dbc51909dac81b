package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
	"github.com/tunemesh/tunemesh/cli/view"
)

func (a *app) jobShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Aliases: []string{"get"},
		Short: "Show a job and its stages",
		Long: `Show a job: its stages with their states, why a stage waits, what went wrong, the numbers, and for a
finished job the base model and the tuned one side by side.
With --json: api.JobDetail.`,
		Example: `  tunemesh job show 01JDCK3V5W8M2N4P6Q7R8S9T0V
  tunemesh job show 01JDCK3V5W8M2N4P6Q7R8S9T0V --json | jq '.stages[] | {name, state}'`,
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.complete(jobIDs),
		RunE: a.online(func(c *call) error {
			job, err := c.mesh.Job(c.ctx, c.args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(job)
			}
			c.printJob(job)
			if err := c.printStages(job); err != nil {
				return err
			}
			c.printWaits(job)
			c.printErrors(job)
			c.printMetrics(job)
			if job.State == api.JobSucceeded {
				fmt.Fprintln(c.out)
				return c.summary(job)
			}
			return nil
		}),
	}
}

func (c *call) printJob(job api.JobDetail) {
	f := facts{c: c}
	f.add("Job", job.ID)
	f.add("Name", job.Name)
	f.add("State", string(job.State))
	f.add("Reason", job.Reason)
	f.add("Dataset", job.Dataset)
	f.add("Model", job.Model)
	if job.Priority != 0 {
		f.add("Priority", fmt.Sprint(job.Priority))
	}
	f.add("Labels", labels(job.Labels))
	f.add("Config", string(job.Config))
	f.add("Submitted", c.when(job.CreatedAt)+by(job.CreatedBy))
	if job.StartedAt != nil {
		f.add("Time", format.Span(job.StartedAt, job.FinishedAt, c.Now()))
	}
	f.print()
	fmt.Fprintln(c.out)
}

func (c *call) printStages(job api.JobDetail) error {
	t := table.Table{Columns: []table.Column{{Title: "STAGE", Shrink: 10}, {Title: "STATE", Paint: c.scr.Style.State}, {Title: "ATTEMPT", Right: true}, {Title: "NODE", Shrink: 10}, {Title: "TIME", Right: true}, {Title: "ARTIFACTS", Right: true}, {Title: "CHECKPOINTS", Shrink: 11}}}
	for _, s := range job.Stages {
		attempt, artifacts, checkpoints := "", "", ""
		if s.Attempt > 0 {
			attempt = fmt.Sprint(s.Attempt)
		}
		if len(s.Artifacts) > 0 {
			artifacts = fmt.Sprint(len(s.Artifacts))
		}
		if n := len(s.Checkpoints); n > 0 {
			checkpoints = fmt.Sprintf("%d, last %s", n, s.Checkpoints[n-1].Name)
		}
		t.Row(s.Name, string(s.State), attempt, s.Node, format.Span(s.StartedAt, s.FinishedAt, c.Now()), artifacts, checkpoints)
	}
	return c.table(&t)
}

func (c *call) printWaits(job api.JobDetail) {
	first := true
	for _, s := range job.Stages {
		why := view.Waiting(job, s, c.Now())
		if why == "" || job.State.Terminal() {
			continue
		}
		if first {
			fmt.Fprintf(c.out, "\n%s\n", c.scr.Style.Bold("Waiting"))
			first = false
		}
		fmt.Fprintln(c.out, format.Indent("  "+s.Name+": ", format.Clean(why), c.scr.Width))
	}
}

// printErrors shows the errors of stages that failed, and of those that are
// being tried again.
func (c *call) printErrors(job api.JobDetail) {
	for _, s := range job.Stages {
		if s.Error == nil || s.State.Done() {
			continue
		}
		what := "failed"
		if s.State != api.StageFailed {
			what = "failed before"
		}
		fmt.Fprintf(c.out, "\n%s\n", c.scr.Style.Bold(fmt.Sprintf("Stage %s %s (%s, %s)", s.Name, what, format.Plural(max(s.Tries, 1), "attempt"), s.Error.Class)))
		for _, line := range view.ErrorLines(*s.Error, c.scr.Width-2, c.scr.Style) {
			fmt.Fprintln(c.out, "  "+line)
		}
	}
	if job.State == api.JobFailed {
		fmt.Fprintf(c.out, "\nMore: tunemesh job dead-letters %s\n", job.ID)
	}
}

func (c *call) printMetrics(job api.JobDetail) {
	first := true
	for _, s := range job.Stages {
		if len(s.Metrics) == 0 {
			continue
		}
		if first {
			fmt.Fprintf(c.out, "\n%s\n", c.scr.Style.Bold("Metrics"))
			first = false
		}
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(s.Metrics)) {
			parts = append(parts, format.Clean(name)+" "+format.Number(s.Metrics[name]))
		}
		fmt.Fprintln(c.out, format.Indent("  "+s.Name+": ", strings.Join(parts, ", "), c.scr.Width))
	}
}
