package cli

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// exactArgs wants one argument for each name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usage(c, "%s needs %s", c.CommandPath(), strings.Join(names[len(args):], " and "))
		}
		return surplus(c, args, len(names))
	}
}

// atMost takes up to n arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error { return surplus(c, args, n) }
}

func surplus(c *cobra.Command, args []string, n int) error {
	if len(args) > n {
		return usage(c, "%s does not know what to do with %q", c.CommandPath(), clip(args[n]))
	}
	return nil
}

// ExactArgs is for verbs beside this package's: one argument for each name.
func ExactArgs(names ...string) cobra.PositionalArgs { return exactArgs(names...) }

// asUsage makes what cobra finds wrong with arguments a usage error.
func asUsage(c *cobra.Command, err error) error {
	var f *failure
	if err == nil || errors.As(err, &f) {
		return err
	}
	return usage(c, "%s", err)
}

func noArgs(c *cobra.Command, args []string) error { return surplus(c, args, 0) }

// completer lists what may be typed next, as "word\tdescription"; args are the
// arguments before it.
type completer func(ctx context.Context, m Mesh, args []string) ([]string, error)

// complete asks the mesh for the first argument of a verb. It is quick or
// silent: nobody waits for a shell's completion.
func (a *app) complete(list completer) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.completions(cmd, args, typed, list), cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) completions(cmd *cobra.Command, args []string, typed string, list completer) []string {
	target, err := a.target()
	if err != nil {
		return nil
	}
	mesh, err := a.connect(target, -1)
	if err != nil {
		return nil
	}
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	all, err := list(ctx, mesh, args)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	var out []string
	for _, word := range all {
		if strings.HasPrefix(word, typed) {
			out = append(out, word)
		}
	}
	return out
}

// fixed completes from a list that is always the same.
func fixed(words ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
}

// natural is the value of a flag that counts something: 0 or more.
type natural struct{ n *int }

// naturalVar defines such a flag.
func naturalVar(c *cobra.Command, n *int, name string, value int, usage string) {
	*n = value
	c.Flags().Var(natural{n}, name, usage)
}

func (v natural) String() string {
	if v.n == nil {
		return "0"
	}
	return strconv.Itoa(*v.n)
}

// Set takes what strconv.Atoi does, but nothing below 0.
func (v natural) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return errors.New("want a whole number, 0 or more")
	}
	*v.n = n
	return nil
}

func (natural) Type() string { return "int" }
