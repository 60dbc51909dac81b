package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/nodeagent/capability"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/engine/peft/install"
)

// serviceDir is where an agent that runs as a service works.
const serviceDir = "/var/lib/tunemesh/agent"

func newEngine() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "engine",
		Short: "What this machine trains with, and install PyTorch for it",
		Long: `What this machine can train with. native is in this program and needs nothing;
peft is PyTorch with Transformers and PEFT, for CUDA, ROCm, MPS and the CPU, in a
Python environment of its own.

These verbs are about this machine, not about the mesh: tunemesh node show tells
what a node has told of itself.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(engineList(), engineInstall(), engineVerify(), engineRemove())
	return cmd
}

// enginesDir is the folder that install and remove work on.
func enginesDir(dataDir string) (string, error) {
	if dataDir != "" {
		return filepath.Abs(filepath.Join(dataDir, "engines"))
	}
	if named := filepath.SplitList(os.Getenv(contract.EnvEngines)); len(named) > 0 {
		return filepath.Abs(named[0])
	}
	if info, err := os.Stat(serviceDir); err == nil && info.IsDir() {
		return filepath.Join(serviceDir, "engines"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no place for the engine: give --data-dir (%w)", err)
	}
	return filepath.Join(home, ".local", "share", "tunemesh", "engines"), nil
}

func dataDirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "data-dir", "", "the agent's `FOLDER` (default: that of the service if there is one, else ~/.local/share/tunemesh, where every agent of this user looks too)")
}

func engineList() *cobra.Command {
	var dataDir string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"},
		Short: "List the engines, and why one cannot run here",
		Long:  "List what this machine can train with, on which devices, and why not where not.\nWith --json: a list of api.Engine.",
		Example: `  tunemesh engine list
  tunemesh engine list --json | jq '.[] | select(.available) | .name'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dataDir == "" {
				if info, err := os.Stat(serviceDir); err == nil && info.IsDir() {
					dataDir = serviceDir
				}
			}
			list := capability.Detect(cmd.Context(), dataDir).Engines
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(list)
			}
			return printEngines(cmd.OutOrStdout(), list)
		},
	}
	dataDirFlag(cmd, &dataDir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printEngines(w io.Writer, list []api.Engine) error {
	for _, e := range list {
		words := "not available: " + e.Reason
		if e.Available {
			words = "available on " + strings.Join(e.Devices, ", ")
			if e.Version != "" {
				words += "; " + e.Version
			}
			if e.Reason != "" {
				words += "\n          " + e.Reason
			}
		}
		if _, err := fmt.Fprintf(w, "%-8s  %s\n", e.Name, words); err != nil {
			return err
		}
	}
	return nil
}

func engineInstall() *cobra.Command {
	o := install.Options{}
	var dataDir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "install peft",
		Short: "Make the Python environment of an engine",
		Long: `Makes the Python environment of the engine peft: torch, transformers, peft and
what they need, in pinned versions whose hashes are checked, with uv if it is
there, else with pip. At the end it trains a tiny model for a few steps.

An installation that was interrupted is not used; the same command goes on where
it was. An agent that runs notices the engine within five minutes.
With --json: the manifest of the environment; progress goes to the standard error output.`,
		Example: `  tunemesh engine install peft
  tunemesh engine install peft --python python3.12 --accelerator cpu
  tunemesh engine install peft --index-url https://pypi.example.org/simple
  tunemesh engine install peft --existing /opt/pytorch/bin/python`,
		Args:      engineArg,
		ValidArgs: []string{engine.PEFT},
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Dir, err = enginesDir(dataDir); err != nil {
				return err
			}
			switch o.Accelerator {
			case "auto", "cpu", "cuda", "rocm", "mps":
			default:
				return cli.Wrong("there are auto, cpu, cuda, rocm and mps", "--accelerator %q is none that is known", o.Accelerator)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				out = cmd.ErrOrStderr()
			}
			started := time.Now()
			o.Say = func(line string) { fmt.Fprintf(out, "%5.0f s  %s\n", time.Since(started).Seconds(), line) }
			m, err := install.Install(cmd.Context(), o)
			if errors.Is(err, context.Canceled) || cmd.Context().Err() != nil {
				return exitError{cli.ExitInterrupted, errors.New("interrupted: nothing uses what is there so far; the same command goes on")}
			}
			if err != nil {
				return asGiven(err)
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(m)
			}
			fmt.Fprintf(out, "peft is installed in %s: torch %s on %s\n", filepath.Join(o.Dir, engine.PEFT), m.Packages["torch"], strings.Join(m.Devices, ", "))
			for _, note := range m.Notes {
				fmt.Fprintln(out, "note: "+note)
			}
			return nil
		},
	}
	f := cmd.Flags()
	dataDirFlag(cmd, &dataDir)
	f.StringVar(&o.Python, "python", "", "`PROGRAM` to make the environment from, Python 3.10 or newer")
	f.StringVar(&o.Existing, "existing", "", "`PROGRAM`: use this Python's own packages as they are; verified, nothing installed")
	f.StringVar(&o.IndexURL, "index-url", "", "package index `URL` instead of PyPI; the hashes stay the same")
	f.StringVar(&o.Accelerator, "accelerator", "auto", "auto, cpu, cuda, rocm or mps")
	f.StringVar(&o.Requirements, "requirements", "", "`FILE` of pinned and hashed packages instead of the program's own")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func engineRemove() *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use: "remove peft", Aliases: []string{"rm"},
		Short:     "Delete the environment of an engine",
		Long:      "Deletes the engine's environment. Trainings that run on it fail; an agent that runs\nnotices within five minutes.",
		Example:   "  tunemesh engine remove peft",
		Args:      engineArg,
		ValidArgs: []string{engine.PEFT},
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := enginesDir(dataDir)
			if err != nil {
				return err
			}
			if err := install.Remove(dir); err != nil {
				return asGiven(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "peft is removed from %s\n", dir)
			return nil
		},
	}
	dataDirFlag(cmd, &dataDir)
	return cmd
}

func engineArg(cmd *cobra.Command, args []string) error {
	hint := fmt.Sprintf("`%s peft`; native is in this program and needs nothing", cmd.CommandPath())
	switch {
	case len(args) != 1:
		return cli.Wrong(hint, "%s needs the name of one engine", cmd.CommandPath())
	case args[0] != engine.PEFT:
		return cli.Wrong(hint, "there is no engine %q to %s", args[0], cmd.Name())
	}
	return nil
}
