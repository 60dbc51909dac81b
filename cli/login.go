package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func (a *app) loginCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "login [SERVER]",
		Short: "Remember a server and a token for the other verbs",
		Long: `Remember a server and a token for the other verbs, in tunemesh/context.json under
$XDG_CONFIG_HOME (~/.config), readable by you alone. The token is asked for where it is not given,
or read from standard input in a pipe. It is tried before it is kept. "tunemesh dev" does this for
its own mesh.
With --json: {"server", "path"}.`,
		Example: `  tunemesh login http://127.0.0.1:7700
  tunemesh login https://mesh.example.org < token.txt`,
		Args: atMost(1),
		RunE: a.offline(func(c *call) error { return c.login() }),
	}
}

func (c *call) login() error {
	if len(c.args) == 1 {
		c.servers = []string{c.args[0]}
	}
	path, err := ContextPath(c.Getenv)
	if err != nil {
		return err
	}
	target, err := c.target()
	if err != nil {
		return err
	}
	if given := c.token != "" || c.Getenv("TUNEMESH_TOKEN") != ""; !given {
		if target.Token, err = c.askToken(); err != nil {
			return err
		}
	}
	if c.mesh, err = c.connect(target, -1); err != nil {
		return err
	}
	if _, err := c.mesh.Jobs(c.ctx); err != nil { // Version needs no token, this does
		return err
	}
	if err := SaveContext(path, target); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(map[string]string{"server": target.Server, "path": path})
	}
	fmt.Fprintf(c.out, "Logged in at %s; kept in %s.\n", target.Server, path)
	return nil
}

// askToken reads the token: without echo from a terminal, else the first line.
func (c *call) askToken() (string, error) {
	in := c.cmd.InOrStdin()
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(c.err, "Token: ")
		data, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(c.err)
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		return strings.TrimSpace(string(data)), nil
	}
	line, err := bufio.NewReader(io.LimitReader(in, 64<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(line), nil
}
