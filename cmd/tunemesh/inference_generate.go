package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/inference"
	"github.com/tunemesh/tunemesh/trainer/inference/inferencepb"
)

// asking is what `inference generate` was told.
type asking struct {
	addr, system string
	raw, json    bool
	in           inferencepb.GenerateRequest
}

func newInferenceGenerate() *cobra.Command {
	var a asking
	cmd := &cobra.Command{
		Use:   "generate TEXT",
		Short: "Have a served model answer, piece by piece",
		Long: `Asks a served model. Its text comes as it is written; Ctrl-C ends it.
With --json: one object at the end: text, finish_reason, numbers of tokens, seconds.`,
		Example: `  tunemesh inference generate "Why is the sky blue?"
  tunemesh inference generate --raw --max-tokens 20 "Once upon a time"
  tunemesh inference generate --json --temperature 0.7 --seed 1 "Hello"`,
		Args: cli.ExactArgs("TEXT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.raw {
				a.in.Prompt = args[0]
			} else {
				if a.system != "" {
					a.in.Messages = append(a.in.Messages, &inferencepb.Message{Role: "system", Content: a.system})
				}
				a.in.Messages = append(a.in.Messages, &inferencepb.Message{Role: "user", Content: args[0]})
			}
			if err := a.check(); err != nil {
				return err
			}
			return a.generate(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	addrFlag(cmd, &a.addr)
	f.StringVar(&a.system, "system", "", "system message")
	f.BoolVar(&a.raw, "raw", false, "go on with TEXT as it stands, without the chat template")
	f.BoolVar(&a.json, "json", false, "print one JSON object at the end")
	f.Int32Var(&a.in.MaxTokens, "max-tokens", 256, "tokens to write at most")
	f.Float32Var(&a.in.Temperature, "temperature", 0, "0 takes the most likely token")
	f.Int32Var(&a.in.TopK, "top-k", 0, "draw from that many tokens; 0: all")
	f.Float32Var(&a.in.TopP, "top-p", 1, "draw from the tokens that together have this probability")
	f.Uint64Var(&a.in.Seed, "seed", 0, "equal requests with an equal seed get equal text")
	f.StringArrayVar(&a.in.Stop, "stop", nil, "`TEXT` that ends the answer; may be repeated")
	return cmd
}

func addrFlag(cmd *cobra.Command, addr *string) {
	cmd.Flags().StringVar(addr, "addr", "127.0.0.1:8001", "`ADDRESS` of the service")
}

// check says what is wrong with a request before anybody is asked, by the flags'
// names. Zero means the default in the API; a person who writes it means zero.
func (a *asking) check() error {
	const hint = "see `tunemesh inference generate --help`"
	switch {
	case a.in.MaxTokens < 1:
		return cli.Wrong(hint, "--max-tokens is %d, want 1 or more", a.in.MaxTokens)
	case !(a.in.TopP > 0):
		return cli.Wrong(hint, "--top-p is %v, want above 0, up to 1", a.in.TopP)
	case a.raw && a.system != "":
		return cli.Wrong("leave one out", "--raw has no place for a --system message")
	}
	var wrong contract.FieldError
	switch err := inference.Check(&a.in); {
	case !errors.As(err, &wrong):
		return err
	case wrong.Field == "prompt", wrong.Field == "messages":
		return cli.Wrong("", "the text %s", wrong.Message)
	}
	return cli.Wrong(hint, "--%s %s", strings.ReplaceAll(wrong.Field, "_", "-"), wrong.Message)
}

// generate prints what a service writes, as it comes.
func (a *asking) generate(ctx context.Context, out, note io.Writer) error {
	client, err := dialService(a.addr)
	if err != nil {
		return err
	}
	defer client.Close()
	var text strings.Builder
	finish, err := client.Generate(ctx, &a.in, func(piece string) {
		text.WriteString(piece)
		if !a.json {
			fmt.Fprint(out, piece)
		}
	})
	if err != nil {
		if text.Len() > 0 && !a.json {
			fmt.Fprintln(out)
		}
		return ofService(ctx, a.addr, err)
	}
	if a.json {
		return json.NewEncoder(out).Encode(map[string]any{
			"text": text.String(), "finish_reason": finish.GetReason(), "prompt_tokens": finish.GetPromptTokens(),
			"completion_tokens": finish.GetCompletionTokens(), "queue_seconds": finish.GetQueueSeconds(),
			"prompt_seconds": finish.GetPromptSeconds(), "decode_seconds": finish.GetDecodeSeconds(), "tokens_per_second": finish.GetTokensPerSecond(),
		})
	}
	fmt.Fprintln(out)
	fmt.Fprintf(note, "%s, %.1f a second; first after %.2f s; %s\n", format.Plural(int(finish.GetCompletionTokens()), "token"), finish.GetTokensPerSecond(), finish.GetPromptSeconds(), finish.GetReason())
	return nil
}

// dialService refuses what is no address at once; a name is looked up later.
func dialService(addr string) (*inference.Client, error) {
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return nil, cli.Wrong("an address is HOST:PORT, such as 127.0.0.1:8001; `tunemesh inference serve` prints it", "--addr %q is no address", addr)
	}
	return inference.Dial(addr)
}

// ofService says what became of a question to a service.
func ofService(ctx context.Context, addr string, err error) error {
	const start = "start one with `tunemesh inference serve --model FOLDER`, or name its address with --addr"
	var call *inference.CallError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, inference.ErrNoAnswer) && !listens(ctx, addr):
		return cli.Unreachable(start, "no service answers at %s", addr)
	case errors.Is(err, inference.ErrNoAnswer):
		return cli.Unreachable("a service that loads a large model answers when it is done; else "+start, "what listens at %s does not answer as an inference service", addr)
	case errors.Is(err, inference.ErrNoService):
		return cli.Unreachable(start, "what listens at %s is no inference service", addr)
	case errors.Is(err, inference.ErrStopped):
		return cli.Unreachable("ask again when it is back, or another replica", "the service at %s stops", addr)
	case errors.Is(err, inference.ErrBroken):
		return cli.Unreachable("ask again, or another replica", "the service at %s broke off in the middle of its answer", addr)
	case errors.Is(err, inference.ErrBusy):
		return cli.Refused("ask again in a while, or another replica", "the service at %s has too many requests waiting", addr)
	case errors.As(err, &call) && errors.Is(err, inference.ErrInvalid):
		return cli.Refused("`tunemesh inference show` tells what the model takes", "%s", call.Message)
	case errors.As(err, &call):
		return fmt.Errorf("the service at %s failed: %s", addr, call.Message)
	}
	return err
}

// listens says whether anything takes connections at an address.
func listens(ctx context.Context, addr string) bool {
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
