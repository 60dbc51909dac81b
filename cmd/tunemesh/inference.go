package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/trainer/inference"
	"github.com/tunemesh/tunemesh/trainer/inference/inferencepb"
	"github.com/tunemesh/tunemesh/trainer/machine"
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
	cmd.AddCommand(newInferenceServe(), newInferenceGenerate())
	return cmd
}

func newInferenceServe() *cobra.Command {
	var files tuned.Files
	var addr, name, templateName, precision string
	var limits inference.Limits
	cmd := &cobra.Command{
		Use:   "serve --model FOLDER",
		Short: "Serve the model in a folder until Ctrl-C",
		Example: `  tunemesh inference serve --model ./SmolLM2-135M-Instruct
  tunemesh inference serve --model ./SmolLM2-135M-Instruct --adapter ./artifacts/adapter --addr 127.0.0.1:8002`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if files.Base == "" {
				return cli.Wrong("give a folder in Hugging Face layout: `tunemesh inference serve --model FOLDER`", "no model is named")
			}
			l, err := net.Listen("tcp", addr)
			if err != nil {
				return fmt.Errorf("listen: %w (another service? choose another --addr)", err)
			}
			defer l.Close()
			settled, err := inference.Settle(files, precision, limits.Concurrent, machine.FreeMemory())
			if err != nil {
				return asGiven(err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), settled)
			loaded, err := inference.Load(name, files, templateName, settled.Precision)
			if err != nil {
				return asGiven(err)
			}
			defer loaded.Close()
			s := inference.NewServer(loaded, limits)
			fmt.Fprintf(cmd.OutOrStdout(), "serving %s at %s (loaded in %.1f s); try: tunemesh inference generate --addr %s \"Hello\"\n",
				files.Base, l.Addr(), loaded.Took.Seconds(), l.Addr())
			return s.Run(cmd.Context(), l)
		},
	}
	f := cmd.Flags()
	f.StringVar(&files.Base, "model", "", "`FOLDER` of the base model, in Hugging Face layout")
	f.StringVar(&files.Adapter, "adapter", "", "`FOLDER` of an adapter in PEFT layout")
	f.StringVar(&files.Full, "full", "", "`FOLDER` of a full set of tuned weights")
	f.StringVar(&name, "name", "", "what the model is called")
	f.StringVar(&templateName, "template", "", "chat template: auto, or a builtin's name (default: the model's own)")
	f.StringVar(&precision, "precision", "auto", "auto, stored, f32, bf16 or q8 (8 bits: faster, a little less exact); auto is as stored, or what fits into the free memory")
	f.StringVar(&addr, "addr", "127.0.0.1:8001", "`ADDRESS` of gRPC")
	f.IntVar(&limits.Concurrent, "concurrent", 4, "requests that are computed in turn")
	f.IntVar(&limits.Waiting, "waiting", 64, "requests that may wait beyond those")
	cmd.MarkFlagsMutuallyExclusive("adapter", "full")
	return cmd
}

func newInferenceGenerate() *cobra.Command {
	var addr, system string
	var raw, asJSON bool
	in := &inferencepb.GenerateRequest{}
	cmd := &cobra.Command{
		Use:   "generate TEXT",
		Short: "Have a served model answer, piece by piece",
		Example: `  tunemesh inference generate "Why is the sky blue?"
  tunemesh inference generate --raw --max-tokens 20 "Once upon a time"
  tunemesh inference generate --json --temperature 0.7 --seed 1 "Hello"`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if raw {
				in.Prompt = args[0]
			} else {
				if system != "" {
					in.Messages = append(in.Messages, &inferencepb.Message{Role: "system", Content: system})
				}
				in.Messages = append(in.Messages, &inferencepb.Message{Role: "user", Content: args[0]})
			}
			return generate(cmd.Context(), addr, in, cmd.OutOrStdout(), cmd.ErrOrStderr(), asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&addr, "addr", "127.0.0.1:8001", "`ADDRESS` of the service")
	f.StringVar(&system, "system", "", "system message")
	f.BoolVar(&raw, "raw", false, "go on with TEXT as it stands, without the chat template")
	f.BoolVar(&asJSON, "json", false, "print one JSON object at the end")
	f.Int32Var(&in.MaxTokens, "max-tokens", 256, "tokens to write at most")
	f.Float32Var(&in.Temperature, "temperature", 0, "0 takes the most likely token")
	f.Int32Var(&in.TopK, "top-k", 0, "draw from that many tokens; 0: all")
	f.Float32Var(&in.TopP, "top-p", 1, "draw from the tokens that together have this probability")
	f.Uint64Var(&in.Seed, "seed", 0, "equal requests with an equal seed get equal text")
	f.StringArrayVar(&in.Stop, "stop", nil, "`TEXT` that ends the answer; may be repeated")
	return cmd
}

// generate prints what a service writes, as it comes.
func generate(ctx context.Context, addr string, in *inferencepb.GenerateRequest, out, note io.Writer, asJSON bool) error {
	client, err := inference.Dial(addr)
	if err != nil {
		return err
	}
	defer client.Close()
	var text strings.Builder
	finish, err := client.Generate(ctx, in, func(piece string) {
		text.WriteString(piece)
		if !asJSON {
			fmt.Fprint(out, piece)
		}
	})
	if errors.Is(err, inference.ErrNoAnswer) {
		return cli.Unreachable("start one with `tunemesh inference serve --model FOLDER`, or name its address with --addr", "no service answers at %s", addr)
	}
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(out).Encode(map[string]any{
			"text": text.String(), "finish_reason": finish.GetReason(), "prompt_tokens": finish.GetPromptTokens(),
			"completion_tokens": finish.GetCompletionTokens(), "queue_seconds": finish.GetQueueSeconds(),
			"prompt_seconds": finish.GetPromptSeconds(), "decode_seconds": finish.GetDecodeSeconds(), "tokens_per_second": finish.GetTokensPerSecond(),
		})
	}
	fmt.Fprintln(out)
	fmt.Fprintf(note, "%d tokens, %.1f a second; first after %.2f s; %s\n", finish.GetCompletionTokens(), finish.GetTokensPerSecond(), finish.GetPromptSeconds(), finish.GetReason())
	return nil
}
