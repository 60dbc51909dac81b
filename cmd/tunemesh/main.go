// Command tunemesh is the whole of Tunemesh in one binary: control plane, node
// agent, trainer and client. This package reads the command line and wires the
// rooms; it decides nothing.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/controlplane/trust"
)

// Set by the linker.
var (
	version = "dev"
	commit  = "unknown"
)

func build() api.Version {
	return api.Version{Version: version, Commit: commit, Go: runtime.Version(), Protocol: api.ProtocolVersion}
}

func main() { os.Exit(run()) }

func run() int {
	// Children of our own come first: they must start fast and take no signals.
	if code, ours := runChild(os.Args[1:]); ours {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return cli.Run(ctx, newRoot(), os.Args[1:], os.Stderr)
}

// exitError ends the program with a code; a nil err prints nothing.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// Exit tells the client's Run how to end.
func (e exitError) Exit() (code int, silent bool) { return e.code, e.err == nil }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "tunemesh",
		Short: "Fine-tune language models on your data, on your machines",
		Long: `Tunemesh schedules the stages of a fine-tuning - dataset, validation,
preprocessing, training, evaluation, export - onto the machines you have, and
brings them to an end whatever restarts in between.

With nothing else installed this binary is a whole mesh of one node:

  tunemesh demo        the whole pipeline on sample data, about a minute
  tunemesh dev         the same mesh, staying up for your own data

Exit codes: 0 done; 1 the job, the check or the demo failed; 2 the line, or what
it names, is wrong; 3 nobody answers; 4 refused; 5 the server, this program or
this machine failed; 130 Ctrl-C.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddGroup(
		&cobra.Group{ID: "start", Title: "Start here:"},
		&cobra.Group{ID: "client", Title: "Work with a mesh:"},
		&cobra.Group{ID: "roles", Title: "Run a part of a mesh:"},
	)
	for _, c := range []*cobra.Command{newDemo(), newDev()} {
		c.GroupID = "start"
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{newControlPlane(), newNodeAgent(), newDoctor(), newTrainer(), newInference(), newEngine()} {
		c.GroupID = "roles"
		root.AddCommand(c)
	}
	for _, c := range cli.Commands(cli.Options{Version: build(), NewClusterSecret: func() string { return trust.NewSecret().String() }, Recover: recoverCluster, Import: importModel, Preview: previewDataset}) {
		c.GroupID = "client"
		root.AddCommand(c)
	}
	return root
}
