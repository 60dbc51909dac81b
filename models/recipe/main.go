// Command recipe makes the bundled base model from text that every machine with
// Go has: `make base-model`.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tunemesh/tunemesh/examples/tickets"
	"github.com/tunemesh/tunemesh/trainer/pretrain"
)

// ticketLines is how many unlabelled tickets are read, and their seed another
// than the sample data's.
const (
	ticketLines = 12_000
	ticketSeed  = 7_000_003
)

func main() {
	c := pretrain.Mini()
	flag.StringVar(&c.Dir, "out", "models/tunemesh-mini", "folder of the model")
	flag.StringVar(&c.Work, "work", ".cache/base-model", "folder of the checkpoints")
	flag.IntVar(&c.Steps, "steps", c.Steps, "optimizer steps")
	flag.Parse()
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "recipe:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c pretrain.Config) error {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("where is Go? %w", err)
	}
	prose, err := pretrain.GoComments(filepath.Join(strings.TrimSpace(string(root)), "src"))
	if err != nil {
		return err
	}
	var lines bytes.Buffer
	if err := tickets.WriteCorpus(&lines, ticketSeed, ticketLines); err != nil {
		return err
	}
	known := map[string]bool{}
	for line := range strings.Lines(lines.String()) {
		if line = strings.TrimSpace(line); line != "" && !known[line] {
			known[line] = true
			prose = append(prose, line)
		}
	}
	report, err := pretrain.Run(ctx, c, pretrain.Gather(prose, c.Seed))
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	fmt.Printf("%s: %d parameters, %d tokens, held-out loss %.3f nats, perplexity %.1f\n", c.Name, report.Parameters, report.Tokens, report.HeldOutLoss, report.HeldOutPerplexity)
	return nil
}
