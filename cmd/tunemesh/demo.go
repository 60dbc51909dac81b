package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/cli/summary"
	"github.com/tunemesh/tunemesh/examples"
)

func newDemo() *cobra.Command {
	var keep string
	var sets []string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Tune the bundled model on the bundled tickets, on a mesh of one node",
		Long: `Starts a mesh of one node on loopback in a temporary folder, uploads the
bundled support tickets, runs the whole pipeline and prints what came out: base
and tuned model side by side, sample answers before and after, where the
artifacts lie, how long each stage took.

Nothing is left running. The exit code is 0 only if the tuned model beat the
base model on the held-out tickets: if the 95 % interval of the difference
excludes zero.`,
		Example: `  tunemesh demo
  tunemesh demo --keep ./demo --set training.epochs=1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd, keep, sets) },
	}
	cmd.Flags().StringVar(&keep, "keep", "", "keep the mesh's data in this `FOLDER`, for `tunemesh dev --data-dir`")
	cmd.Flags().StringArrayVar(&sets, "set", nil, "set a field of the job's config, as in `tunemesh job submit`")
	return cmd
}

func runDemo(cmd *cobra.Command, keep string, sets []string) (err error) {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	dir := keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "tunemesh-demo-"); err != nil {
			return fmt.Errorf("make a folder for the demo: %w", err)
		}
		defer os.RemoveAll(dir)
	}
	started := time.Now()
	l, err := startLocal(ctx, localConfig{
		dir: dir, httpAddr: "127.0.0.1:0", raftAddr: "127.0.0.1:0", gossipAddr: "127.0.0.1:0",
		log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	fmt.Fprintf(out, "A mesh of one node is up at %s after %.1f s.\n", l.server.URL(), time.Since(started).Seconds())

	tickets := filepath.Join(dir, "support-tickets.csv")
	if err := os.WriteFile(tickets, examples.SupportTickets, 0o600); err != nil {
		return fmt.Errorf("write the sample data: %w", err)
	}
	token, err := l.server.AdminToken()
	if err != nil {
		return err
	}
	environment := map[string]string{"TUNEMESH_SERVER": l.server.URL(), "TUNEMESH_TOKEN": token}
	submit := []string{"job", "submit", "--dataset", tickets, "--name", "demo"}
	for _, s := range sets {
		submit = append(submit, "--set", s)
	}
	for _, verb := range [][]string{{"node", "list"}, submit} {
		fmt.Fprintf(out, "\n$ tunemesh %s\n", strings.Join(verb, " "))
		if err := runVerb(ctx, cmd, environment, verb); err != nil {
			return err
		}
	}

	mesh := client.New(client.Config{Servers: []string{l.server.URL()}, Token: token, UserAgent: "tunemesh-demo/" + version})
	jobs, err := mesh.Jobs(ctx)
	if err != nil || len(jobs) != 1 {
		return fmt.Errorf("the demo's job is not to be found among %d: %w", len(jobs), err)
	}
	fmt.Fprintf(out, "\n$ tunemesh job watch %s\n", jobs[0].ID)
	job, err := cli.Watch(ctx, mesh, jobs[0].ID, cli.WatchOptions{Out: out, Hint: "Ctrl-C ends the demo"})
	if err != nil {
		return err
	}
	made, err := mesh.Artifacts(ctx, job.ID)
	if err != nil {
		return err
	}
	fmt.Fprintln(out)
	if err := summary.Print(out, job, made); err != nil {
		return err
	}
	if job.State != api.JobSucceeded {
		return exitError{1, fmt.Errorf("the demo's job is %s", job.State)}
	}
	fmt.Fprintf(out, "\nThe whole demo took %.0f s.\n", time.Since(started).Seconds())
	if keep != "" {
		fmt.Fprintf(out, "Look around in it: tunemesh dev --data-dir %s\n", keep)
	}
	if improved, known := summary.Improved(job); !known || !improved {
		return exitError{1, errors.New("the tuned model was not shown to beat the base model")}
	}
	return nil
}

// runVerb runs a client verb in this process, as a user would type it.
func runVerb(ctx context.Context, parent *cobra.Command, environment map[string]string, args []string) error {
	root := &cobra.Command{Use: "tunemesh", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(cli.Commands(cli.Options{Version: build(), Getenv: func(key string) string {
		if v, ok := environment[key]; ok {
			return v
		}
		return os.Getenv(key)
	}})...)
	root.SetArgs(args)
	root.SetOut(parent.OutOrStdout())
	root.SetErr(parent.ErrOrStderr())
	return root.ExecuteContext(ctx)
}
