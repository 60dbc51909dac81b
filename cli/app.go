package cli

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

// Options are what the verbs take from the program around them. The zero value
// is that of a real program.
type Options struct {
	// Version is this program's own.
	Version api.Version
	// Connect makes the connection; nil takes the real client.
	Connect func(Context) (Mesh, error)
	// HTTP does the requests of the real client; nil takes the client's own.
	HTTP *http.Client
	// Now is the clock, its location that of the times shown.
	Now func() time.Time
	// Getenv reads the environment.
	Getenv func(string) string
	// Screen says what is known of an output; nil asks the operating system.
	Screen func(io.Writer) Screen
	// NewClusterSecret makes a cluster secret, for `token new-cluster`; nil leaves
	// the verb out.
	NewClusterSecret func() string
	// Recover is the work of the verb `cluster recover`; nil leaves the verb out.
	Recover Recoverer
	// Import prepares models for the verb `model import`; nil leaves the verb out.
	Import Importer
	// Preview reads files for the verb `dataset preview`; nil leaves the verb out.
	Preview Previewer
}

// app is what all verbs share.
type app struct {
	Options
	servers []string
	token   string
	json    bool
}

// Commands returns the client verbs, to be added to the program's root. The
// error that a verb's execution returns goes to Report, which prints it and
// gives the exit code.
func Commands(o Options) []*cobra.Command {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Screen == nil {
		o.Screen = func(w io.Writer) Screen { return screenOf(w, o.Getenv) }
	}
	a := &app{Options: o}
	commands := []*cobra.Command{a.datasetCommand(), a.jobCommand(), a.nodeCommand(), a.artifactCommand(), a.modelCommand(), a.snapshotCommand(), a.clusterCommand(), a.tokenCommand(), a.loginCommand(), a.versionCommand()}
	for _, c := range commands {
		flags := c.PersistentFlags()
		flags.StringSliceVar(&a.servers, "server", nil, "base `URL` of a server; several with commas (TUNEMESH_SERVER)")
		flags.StringVar(&a.token, "token", "", "access token; better kept out of the process list with TUNEMESH_TOKEN")
		flags.BoolVar(&a.json, "json", false, "print JSON: the documents of the API, one per line where it is a stream")
		prepare(c)
	}
	return commands
}

// prepare gives a command and those below it the manners that all share:
// errors are returned and not printed, and a wrong line is a usage error. Twice
// is no harm.
func prepare(c *cobra.Command) {
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SuggestionsMinimumDistance = 2
	// Texts of flags are wrapped where everything else is.
	c.SetUsageTemplate(strings.ReplaceAll(c.UsageTemplate(), ".FlagUsages |", ".FlagUsagesWrapped 100 |"))
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if words := c.Flags().Args(); c.HasSubCommands() && len(words) > 0 { // the flag is of the command that was meant
			return noCommand(c, words[0])
		}
		return usage(c, "%s", err)
	})
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error { return asUsage(c, check(c, args)) }
	}
	if c.HasSubCommands() && c.RunE == nil {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return noCommand(c, args[0])
		}
	}
	for _, child := range c.Commands() {
		prepare(child)
	}
}

// noCommand says that a group has no such command, and which is near.
func noCommand(group *cobra.Command, word string) error {
	message := "there is no command " + strings.TrimSpace(group.CommandPath()+" "+clip(word))
	if near := group.SuggestionsFor(word); len(near) > 0 {
		message += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usage(group, "%s", message)
}

// call is one execution of a verb.
type call struct {
	*app
	ctx  context.Context
	cmd  *cobra.Command
	args []string
	out  io.Writer // results
	err  io.Writer // progress and remarks
	scr  Screen    // of out
	mesh Mesh
}

// offline wraps a verb that needs no connection.
func (a *app) offline(run func(*call) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c := &call{app: a, ctx: cmd.Context(), cmd: cmd, args: args, out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()}
		if c.ctx == nil {
			c.ctx = context.Background()
		}
		c.scr = a.Screen(c.out)
		return run(c)
	}
}

// online wraps a verb that talks to the mesh.
func (a *app) online(run func(*call) error) func(*cobra.Command, []string) error {
	return a.offline(func(c *call) error {
		if err := c.dial(); err != nil {
			return err
		}
		return run(c)
	})
}

// dial connects, and asks once whether anybody is there: a person who forgot to
// start the mesh should not wait for the client's patience to end.
func (c *call) dial() error {
	target, err := c.target()
	if err != nil {
		return err
	}
	if c.mesh, err = c.connect(target, 0); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
	defer cancel()
	for range target.list() {
		if err = c.mesh.Ready(ctx); err == nil || !nobodyThere(err) {
			return nil // somebody answers, if only that it is not ready yet
		}
	}
	return err
}

// connect makes the client. retries is the client's number of them.
func (a *app) connect(target Context, retries int) (Mesh, error) {
	if a.Connect != nil {
		return a.Connect(target)
	}
	return client.New(client.Config{
		Servers: target.list(), Token: target.Token, HTTP: a.HTTP, Retries: retries,
		UserAgent: "tunemesh-cli/" + a.Version.Version,
	}), nil
}

// location is that of the times shown.
func (a *app) location() *time.Location { return a.Now().Location() }
