package main

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/inference"
	"github.com/tunemesh/tunemesh/trainer/machine"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tuned"
)

func newInference() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inference",
		Short: "Serve a base or tuned model over gRPC, or ask one that is served",
		Long: `Serves a model for benchmarks and for trying a tuned model out. The service is
a process of its own. Behind the scheduler it is the stage kind inference: a
pipeline may have several replicas, and examples/inference.json has two.`,
	}
	cmd.AddCommand(newInferenceServe(), newInferenceShow(), newInferenceGenerate())
	return cmd
}

// serving is what `inference serve` was told.
type serving struct {
	files                           tuned.Files
	addr, name, template, precision string
	limits                          inference.Limits
}

func newInferenceServe() *cobra.Command {
	var s serving
	cmd := &cobra.Command{
		Use:   "serve --model FOLDER",
		Short: "Serve the model in a folder until Ctrl-C",
		Long: `Loads the model in a folder and serves it over gRPC until Ctrl-C. Requests that run
then may come to their end, for five seconds.`,
		Example: `  tunemesh inference serve --model ./SmolLM2-135M-Instruct
  tunemesh inference serve --model ./SmolLM2-135M-Instruct --adapter ./artifacts/adapter --addr 127.0.0.1:8002`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&s.files.Base, "model", "", "`FOLDER` of the base model, in Hugging Face layout")
	f.StringVar(&s.files.Adapter, "adapter", "", "`FOLDER` of an adapter in PEFT layout")
	f.StringVar(&s.files.Full, "full", "", "`FOLDER` of a full set of tuned weights")
	f.StringVar(&s.name, "name", "", "what the model is called (default: as its folder)")
	f.StringVar(&s.template, "template", "", "chat template: auto, or a builtin's name (default: the model's own)")
	f.StringVar(&s.precision, "precision", "auto", "auto, stored, f32, bf16 or q8 (8 bits: faster, a little less exact); auto is as stored, or what fits into the free memory")
	f.StringVar(&s.addr, "addr", "127.0.0.1:8001", "`ADDRESS` of gRPC")
	f.IntVar(&s.limits.Concurrent, "concurrent", 4, "requests that are computed in turn")
	f.IntVar(&s.limits.Waiting, "waiting", 64, "requests that may wait beyond those")
	return cmd
}

// check says what is wrong with the flags.
func (s *serving) check() error {
	forms := template.Names()
	switch {
	case s.files.Base == "":
		return cli.Wrong("give a folder in Hugging Face layout: `tunemesh inference serve --model FOLDER`", "no model is named")
	case s.files.Adapter != "" && s.files.Full != "":
		return cli.Wrong("a full set of tuned weights needs no adapter: give one of them", "--adapter and --full are given")
	case s.limits.Concurrent < 1:
		return cli.Wrong("each request takes memory for its keys and values; 4 is the default", "--concurrent is %d, want 1 or more", s.limits.Concurrent)
	case s.limits.Waiting < 1:
		return cli.Wrong("what comes beyond is refused; 64 is the default", "--waiting is %d, want 1 or more", s.limits.Waiting)
	case !slices.Contains(contract.ServedPrecisions, s.precision):
		return cli.Wrong("there are "+strings.Join(contract.ServedPrecisions, ", "), "--precision %q is none that is known", s.precision)
	case s.template != "" && s.template != "auto" && !slices.Contains(forms, s.template):
		return cli.Wrong("there are auto, "+strings.Join(forms, ", "), "--template %q is none that is known", s.template)
	}
	if folder, err := filepath.Abs(s.files.Base); err == nil {
		s.name = cmp.Or(s.name, filepath.Base(folder))
	}
	return asGiven(inference.CheckFolders(s.files))
}

func (s *serving) run(cmd *cobra.Command) error {
	if err := s.check(); err != nil {
		return err
	}
	l, err := cli.Listen("--addr", s.addr)
	if err != nil {
		return err
	}
	defer l.Close()
	settled, err := inference.Settle(s.files, s.precision, s.limits.Concurrent, machine.FreeMemory())
	if err != nil {
		return asGiven(err)
	}
	fmt.Fprintln(cmd.OutOrStdout(), settled)
	loaded, err := inference.Load(s.name, s.files, s.template, settled)
	if err != nil {
		return asGiven(forAdapter(err))
	}
	defer loaded.Close()
	server := inference.NewServer(loaded, s.limits)
	fmt.Fprintf(cmd.OutOrStdout(), "serving %s at %s (loaded in %.1f s); try: tunemesh inference generate --addr %s \"Hello\"\n",
		s.files.Base, l.Addr(), loaded.Took.Seconds(), l.Addr())
	return server.Run(cmd.Context(), l)
}

// forAdapter changes the advice for an adapter that does not fit: a stage's is
// to train it again, and here another base model may be what is wanted.
func forAdapter(err error) error {
	var e *contract.Error
	if !errors.As(err, &e) || e.Code != "BAD_ADAPTER" {
		return err
	}
	own := *e
	own.Hint = "serve it over the base model that it was trained on: base_model_name_or_path in its adapter_config.json names it"
	return &own
}
