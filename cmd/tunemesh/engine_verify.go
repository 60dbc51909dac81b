package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/engine/peft/verify"
)

func engineVerify() *cobra.Command {
	var dataDir, device, shape string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify peft",
		Short: "Compare an engine with native on every device, and measure it",
		Long: `Runs the installed engine peft on every device that its torch sees: 20 steps whose
losses must agree with those of native, for each precision of the frozen base (f32,
bf16, int8, int4; on CUDA also the card's own), and then the speed and the memory of
LoRA steps on a model of real size with random weights. Nothing is fetched.

Of several cards the first one is taken; CUDA_VISIBLE_DEVICES=1 chooses another.
The exit code is 1 if anything fails. With --json: the report, on one device after
the other; progress goes to the standard error output.`,
		Example: `  tunemesh engine verify peft
  tunemesh engine verify peft --device cuda --shape 1b
  tunemesh engine verify peft --shape none --json | jq '.devices[].checks'`,
		Args:      engineArg,
		ValidArgs: []string{engine.PEFT},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, known := verify.Shapes[shape]; !known && shape != "none" {
				return cli.Wrong("there are 135m, 1b and none", "--shape %q is none that is known", shape)
			}
			if !slices.Contains([]string{"all", "cpu", "cuda", "mps"}, device) {
				return cli.Wrong("there are all, cpu, cuda and mps", "--device %q is none that is known", device)
			}
			folders := contract.EngineFolders(dataDir)
			if dataDir != "" { // that one, and no other
				dir, err := enginesDir(dataDir)
				if err != nil {
					return err
				}
				folders = []string{dir}
			} else if info, err := os.Stat(serviceDir); err == nil && info.IsDir() {
				folders = contract.EngineFolders(serviceDir)
			}
			m, err := contract.FindEngine(folders, engine.PEFT)
			if errors.Is(err, contract.ErrNoEngine) {
				return cli.Wrong("`tunemesh engine install peft` makes it; --data-dir names the folder of another agent", "the engine peft is not installed")
			}
			if err != nil {
				return fmt.Errorf("engine verify: peft: %w", err)
			}
			scratch, err := verify.Scratch()
			if err != nil {
				return fmt.Errorf("engine verify: %w", err)
			}
			defer os.RemoveAll(scratch)
			started := time.Now()
			o := verify.Options{Engine: m, Shape: shape, Scratch: scratch, Say: func(line string) {
				fmt.Fprintf(cmd.ErrOrStderr(), "%5.0f s  %s\n", time.Since(started).Seconds(), line)
			}}
			if device != "all" {
				o.Devices = []string{device}
			}
			report, err := verify.Run(cmd.Context(), o)
			if cmd.Context().Err() != nil {
				return cmd.Context().Err() // whatever Python said when it was interrupted
			}
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				if err := e.Encode(report); err != nil {
					return err
				}
			} else {
				report.Print(cmd.OutOrStdout())
			}
			if !report.OK() {
				return exitError{1, errors.New("the engine peft does not do all that it should on this machine")}
			}
			return nil
		},
	}
	dataDirFlag(cmd, &dataDir)
	cmd.Flags().StringVar(&device, "device", "all", "all, cpu, cuda or mps")
	cmd.Flags().StringVar(&shape, "shape", "135m", "model to measure: 135m, 1b, or none")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
