package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/view"
)

// logLevels from the least to the most serious; state changes weigh as much as
// information.
var logLevels = []string{"metric", "info", "warn", "error"}

// logFilter picks events.
type logFilter struct {
	stage  string
	level  string
	follow bool
	tail   int
}

func (a *app) jobLogs() *cobra.Command {
	var f logFilter
	c := &cobra.Command{
		Use: "logs ID", Aliases: []string{"log", "events"},
		Short: "Print a job's events",
		Long: `Print a job's events in order: log lines, numbers, changes of state. In a pipe a
line is never broken, so that it can be searched.
With --json: one api.Event per line.`,
		Example: `  tunemesh job logs 01JDCK3V5W8M2N4P6Q7R8S9T0V --level warn
  tunemesh job logs 01JDCK3V5W8M2N4P6Q7R8S9T0V -f --stage training
  tunemesh job logs 01JDCK3V5W8M2N4P6Q7R8S9T0V --json | jq -c 'select(.loss) | [.step, .loss]'`,
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.complete(jobIDs),
		RunE: a.online(func(c *call) error {
			if !slices.Contains(logLevels, strings.ToLower(f.level)) {
				return usage(c.cmd, "--level %s is none of %s", clip(f.level), strings.Join(logLevels, ", "))
			}
			if f.tail > 0 && f.follow {
				return usage(c.cmd, "--tail and --follow do not go together")
			}
			return c.logs(f)
		}),
	}
	c.Flags().BoolVarP(&f.follow, "follow", "f", false, "wait for more until the job ends")
	c.Flags().StringVar(&f.stage, "stage", "", "only events of this `stage`")
	c.Flags().StringVar(&f.level, "level", "metric", "least serious `level`: metric, info, warn or error")
	naturalVar(c, &f.tail, "tail", 0, "only the last `n` events")
	_ = c.RegisterFlagCompletionFunc("level", fixed(logLevels...))
	return c
}

func (f logFilter) wants(e api.Event) bool {
	if f.stage != "" && e.Stage != f.stage {
		return false
	}
	weight := slices.Index(logLevels, strings.ToLower(e.Level))
	if weight < 0 { // STATE, and levels of a later version
		weight = slices.Index(logLevels, "info")
	}
	return weight >= slices.Index(logLevels, strings.ToLower(f.level))
}

func (c *call) logs(f logFilter) error {
	ctx, stop := signal.NotifyContext(c.ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var kept []api.Event
	err := c.mesh.Events(ctx, c.args[0], 0, f.follow, func(e api.Event) error {
		switch {
		case !f.wants(e):
			return nil
		case f.tail > 0:
			if kept = append(kept, e); len(kept) > f.tail {
				kept = kept[1:]
			}
			return nil
		}
		return c.logLine(e)
	})
	for _, e := range kept {
		if lineErr := c.logLine(e); lineErr != nil {
			err = lineErr
			break
		}
	}
	switch {
	case errors.Is(err, context.Canceled):
		return &failure{code: ExitInterrupted, silent: true, cause: err}
	case errors.Is(err, syscall.EPIPE):
		return &failure{code: ExitOK, silent: true}
	}
	return err
}

func (c *call) logLine(e api.Event) error {
	if c.json {
		return json.NewEncoder(c.out).Encode(e)
	}
	if c.scr.Terminal {
		c.lines(view.LogLines(e, c.scr.Style, c.location(), c.scr.Width, true))
		return nil
	}
	_, err := fmt.Fprintln(c.out, strings.TrimRight(view.LogLine(e, c.scr.Style, c.location()), " "))
	return err
}
