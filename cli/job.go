package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
	"github.com/tunemesh/tunemesh/cli/view"
)

func (a *app) jobCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "job", Aliases: []string{"jobs"},
		Short: "Submit, watch, cancel and resume jobs",
		Long:  "A job is one execution of a pipeline on a dataset with a config.",
		Example: `  tunemesh job submit --dataset tickets.csv --watch
  tunemesh job list
  tunemesh job watch 01JDCK3V5W8M2N4P6Q7R8S9T0V`,
	}
	group.AddCommand(a.jobSubmit(), a.jobList(), a.jobShow(), a.jobWatch(), a.jobLogs(), a.jobCancel(), a.jobResume(), a.jobDeadLetters())
	return group
}

func (a *app) jobList() *cobra.Command {
	var states []string
	var limit int
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"},
		Short: "List the jobs, newest first",
		Long:  "List the jobs, newest first.\nWith --json: an array of api.Job.",
		Example: `  tunemesh job list
  tunemesh job list --state running,pending
  tunemesh job list --json --limit 1 | jq -r '.[0].id'`,
		Args: noArgs,
		RunE: a.online(func(c *call) error {
			if err := checkStates(c.cmd, states); err != nil {
				return err
			}
			list, err := c.mesh.Jobs(c.ctx)
			if err != nil {
				return err
			}
			if len(states) > 0 {
				list = slices.DeleteFunc(list, func(j api.Job) bool { return !slices.Contains(states, string(j.State)) })
			}
			hidden := 0
			if limit > 0 && len(list) > limit {
				hidden = len(list) - limit
				list = list[:limit]
			}
			if c.json {
				return printList(c, list)
			}
			return c.printJobs(list, hidden, len(states) > 0)
		}),
	}
	c.Flags().StringSliceVar(&states, "state", nil, "only jobs in these `states`: pending, running, succeeded, failed, cancelled")
	naturalVar(c, &limit, "limit", 50, "at most so many; 0 for all")
	_ = c.RegisterFlagCompletionFunc("state", fixed(jobStates...))
	return c
}

var jobStates = []string{string(api.JobPending), string(api.JobRunning), string(api.JobSucceeded), string(api.JobFailed), string(api.JobCancelled)}

func checkStates(c *cobra.Command, states []string) error {
	for _, s := range states {
		if !slices.Contains(jobStates, s) {
			return usage(c, "--state %s is none of %s", clip(s), strings.Join(jobStates, ", "))
		}
	}
	return nil
}

func (c *call) printJobs(list []api.Job, hidden int, filtered bool) error {
	if len(list) == 0 {
		if filtered {
			fmt.Fprintln(c.out, "No job is in that state.")
		} else {
			fmt.Fprintln(c.out, "There is no job yet. Submit one: tunemesh job submit --dataset FILE --watch")
		}
		return nil
	}
	t := table.Table{Columns: []table.Column{{Title: "ID"}, {Title: "NAME", Shrink: 8}, {Title: "STATE", Paint: c.scr.Style.State}, {Title: "DATASET", Shrink: 10, Keep: true}, {Title: "MODEL", Shrink: 6, Keep: true}, {Title: "TIME", Right: true}, {Title: "AGE", Right: true}}}
	for _, j := range list {
		t.Row(j.ID, j.Name, string(j.State), j.Dataset, j.Model, format.Span(j.StartedAt, j.FinishedAt, c.Now()), format.Age(j.CreatedAt, c.Now()))
	}
	if err := c.table(&t); err != nil {
		return err
	}
	if hidden > 0 {
		fmt.Fprintf(c.err, "%s more; --limit 0 shows all.\n", format.Plural(hidden, "older job"))
	}
	return nil
}

func (a *app) jobCancel() *cobra.Command {
	var why string
	c := &cobra.Command{
		Use:   "cancel ID",
		Short: "Stop a job",
		Long:  "Stop a job: what runs is told to stop, what waits does not start. It can be resumed.\nWith --json: api.JobDetail.",
		Example: `  tunemesh job cancel 01JDCK3V5W8M2N4P6Q7R8S9T0V
  tunemesh job cancel 01JDCK3V5W8M2N4P6Q7R8S9T0V --reason "wrong column"`,
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.complete(jobIDsIn(api.JobPending, api.JobRunning)),
		RunE: a.online(func(c *call) error {
			job, err := c.mesh.CancelJob(c.ctx, c.args[0], why)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(job)
			}
			fmt.Fprintf(c.out, "Job %s is %s.\n", job.ID, job.State)
			fmt.Fprintf(c.err, "Go on with it: tunemesh job resume %s\n", job.ID)
			return nil
		}),
	}
	c.Flags().StringVar(&why, "reason", "", "why, for those who look at the job later")
	return c
}

func (a *app) jobResume() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "resume ID",
		Short: "Go on with a failed or cancelled job",
		Long:  "Go on with a failed or cancelled job from its last good stage; nothing that succeeded is done again.\nWith --json: api.JobDetail, or with --watch what job watch prints.",
		Example: `  tunemesh job resume 01JDCK3V5W8M2N4P6Q7R8S9T0V
  tunemesh job resume 01JDCK3V5W8M2N4P6Q7R8S9T0V --watch`,
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.complete(jobIDsIn(api.JobFailed, api.JobCancelled)),
		RunE: a.online(func(c *call) error {
			job, err := c.mesh.ResumeJob(c.ctx, c.args[0])
			if err != nil {
				return err
			}
			if watch {
				return c.watch(job.ID)
			}
			if c.json {
				return c.printJSON(job)
			}
			fmt.Fprintf(c.out, "Job %s is %s again.\n", job.ID, job.State)
			fmt.Fprintf(c.err, "Watch it: tunemesh job watch %s\n", job.ID)
			return nil
		}),
	}
	c.Flags().BoolVar(&watch, "watch", false, "watch the job afterwards")
	return c
}

func (a *app) jobDeadLetters() *cobra.Command {
	var events int
	c := &cobra.Command{
		Use: "dead-letters [ID]", Aliases: []string{"dead-letter"},
		Short: "Show the stages that exhausted their attempts, and why",
		Long:  "Show the stages that exhausted their attempts, with their errors and last events, of one job or all.\nWith --json: an array of api.DeadLetter.",
		Example: `  tunemesh job dead-letters
  tunemesh job dead-letters 01JDCK3V5W8M2N4P6Q7R8S9T0V --events 50`,
		Args:              atMost(1),
		ValidArgsFunction: a.complete(jobIDsIn(api.JobFailed)),
		RunE: a.online(func(c *call) error {
			id := ""
			if len(c.args) > 0 {
				id = c.args[0]
			}
			list, err := c.mesh.DeadLetters(c.ctx, id)
			if err != nil {
				return err
			}
			if c.json {
				return printList(c, list)
			}
			if len(list) == 0 {
				fmt.Fprintln(c.out, "There is no dead letter.")
			}
			for i, d := range list {
				if i > 0 {
					fmt.Fprintln(c.out)
				}
				c.printDeadLetter(d, events)
			}
			return nil
		}),
	}
	naturalVar(c, &events, "events", 5, "at most so many of the last events")
	return c
}

func (c *call) printDeadLetter(d api.DeadLetter, events int) {
	f := facts{c: c}
	f.add("Job", d.JobID)
	f.add("Stage", d.Stage)
	f.add("Failed", fmt.Sprintf("%s after %s, on node %s", c.when(d.At), format.Plural(d.Tries, "attempt"), d.NodeID))
	f.add("Class", d.Error.Class)
	f.print()
	c.lines(view.ErrorLines(d.Error, c.scr.Width, c.scr.Style))
	for _, a := range d.Artifacts {
		fmt.Fprintf(c.out, "It left %s: tunemesh artifact get %s %s\n", a.Name, d.JobID, a.Name)
	}
	if n := len(d.Events) - events; n > 0 {
		d.Events = d.Events[n:]
	}
	for _, e := range d.Events {
		fmt.Fprintln(c.out, format.Cut("  "+view.LogLine(e, c.scr.Style, c.location()), c.scr.Width))
	}
	c.lines(goOn(d.Error, d.JobID))
}

// goOn says how to go on after an error.
func goOn(e api.StageError, job string) []string {
	switch {
	case e.Retryable:
		return []string{"Try again: tunemesh job resume " + job}
	case e.Class == "bad_input":
		return []string{"Trying again would fail the same way: correct the dataset and submit a new job."}
	case e.Class == "config":
		return []string{"Trying again would fail the same way: correct the config and submit a new job."}
	}
	return nil
}

func (c *call) lines(lines []string) {
	for _, line := range lines {
		fmt.Fprintln(c.out, line)
	}
}

func jobIDs(ctx context.Context, m Mesh, args []string) ([]string, error) {
	return jobIDsIn()(ctx, m, args)
}

// jobIDsIn completes the ids of jobs in some states; none for all.
func jobIDsIn(states ...api.JobState) completer {
	return func(ctx context.Context, m Mesh, _ []string) ([]string, error) {
		list, err := m.Jobs(ctx)
		var out []string
		for _, j := range list {
			if len(states) == 0 || slices.Contains(states, j.State) {
				out = append(out, j.ID+"\t"+strings.TrimSpace(string(j.State)+" "+format.Clean(j.Name)))
			}
		}
		return out, err
	}
}

func isNotFound(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Status == http.StatusNotFound
}
