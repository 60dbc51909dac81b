package main

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/tracing"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/evaluation"
	"github.com/tunemesh/tunemesh/trainer/export"
	"github.com/tunemesh/tunemesh/trainer/inference"
	"github.com/tunemesh/tunemesh/trainer/preprocessing"
	"github.com/tunemesh/tunemesh/trainer/training"
	"github.com/tunemesh/tunemesh/trainer/validation"
)

// stages are the built-in stages and how they sign their events.
var stages = map[string]struct {
	run   contract.Stage
	agent string
}{
	"dataset":       {dataset.Run, "DatasetAgent"},
	"validation":    {validation.Run, "ValidationAgent"},
	"preprocessing": {preprocessing.Run, "PreprocessingAgent"},
	"training":      {training.Run, "TrainingAgent"},
	"evaluation":    {evaluation.Run, "EvaluationAgent"},
	"export":        {export.Run, "ExportAgent"},
	"inference":     {inference.Stage, "InferenceAgent"},
}

func newTrainer() *cobra.Command {
	return &cobra.Command{
		Use:   "trainer STAGE",
		Short: "Run one built-in stage by the stage contract",
		Long: `Runs one built-in stage as a process: it reads the input document named by
TUNEMESH_INPUT, prints events as JSON lines and writes its result to the path
in TUNEMESH_RESULT. Node agents start it; docs/stage-contract.md shows how to
start one by hand.

Stages: ` + strings.Join(api.ServedKinds, ", "),
		Example:   "  TUNEMESH_INPUT=input.json TUNEMESH_RESULT=result.json tunemesh trainer dataset",
		Args:      cobra.ExactArgs(1),
		ValidArgs: api.ServedKinds,
		RunE: func(cmd *cobra.Command, args []string) error {
			stage, ok := stages[args[0]]
			if !ok {
				return exitError{2, fmt.Errorf("there is no stage %q; stages are %s", args[0], strings.Join(api.ServedKinds, ", "))}
			}
			parent := os.Getenv(tracing.EnvParent)
			if in, err := contract.ReadInput(); err == nil {
				parent = cmp.Or(in.TraceParent, parent)
				if in.Devices.CPUCores > 0 {
					runtime.GOMAXPROCS(min(in.Devices.CPUCores, runtime.NumCPU()))
				}
			}
			stop, err := startTracing(cmd.Context(), "tunemesh-trainer")
			if err != nil {
				return err
			}
			defer stop()
			ctx, span := tracing.Begin(tracing.Under(cmd.Context(), parent), "stage "+args[0])
			if code := contract.Run(ctx, stage.run, stage.agent, os.Stdout); code != 0 {
				err = exitError{code: code}
			}
			span.End(err)
			return err
		},
	}
}
