package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Context says which mesh the verbs talk to.
type Context struct {
	// Server is a base URL, or several with commas between them.
	Server string `json:"server"`
	Token  string `json:"token,omitempty"`
}

func (c Context) list() []string {
	var out []string
	for s := range strings.SplitSeq(c.Server, ",") {
		if s = strings.TrimRight(strings.TrimSpace(s), "/"); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// ContextPath is where the context is kept: tunemesh/context.json in
// $XDG_CONFIG_HOME, or in ~/.config. getenv reads the environment; nil takes the
// process's.
func ContextPath(getenv func(string) string) (string, error) {
	if getenv == nil {
		getenv = os.Getenv
	}
	base := getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(base) { // the XDG specification: a relative path is ignored
		home := getenv("HOME")
		if home == "" {
			var err error
			if home, err = os.UserHomeDir(); err != nil {
				return "", fmt.Errorf("no place for the context file: set HOME or XDG_CONFIG_HOME: %w", err)
			}
		}
		base = filepath.Join(home, ".config")
	}
	return filepath.Join(base, "tunemesh", "context.json"), nil
}

// SaveContext writes the context for the verbs of this user, readable by nobody
// else, whole or not at all.
func SaveContext(path string, c Context) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("save context: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save context: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".context-*") // mode 0600
	if err != nil {
		return fmt.Errorf("save context: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(data, '\n'))
	if err = errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("save context: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("save context: %w", err)
	}
	return nil
}

// LoadContext reads the context; without a file it is empty.
func LoadContext(path string) (Context, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Context{}, nil
	}
	if err != nil {
		return Context{}, fmt.Errorf("read context: %w", err)
	}
	var c Context
	if err := json.Unmarshal(data, &c); err != nil {
		return Context{}, fmt.Errorf("context file %s is damaged (%w): delete it and run `tunemesh login` again", path, err)
	}
	return c, nil
}

// target is the mesh to talk to: flags before environment before context file.
// The file's token goes only to the file's servers.
func (a *app) target() (Context, error) {
	t := Context{Server: strings.Join(a.servers, ","), Token: a.token}
	if t.Server == "" {
		t.Server = a.Getenv("TUNEMESH_SERVER")
	}
	if t.Token == "" {
		t.Token = a.Getenv("TUNEMESH_TOKEN")
	}
	if t.Server == "" || t.Token == "" {
		path, err := ContextPath(a.Getenv)
		if err != nil {
			return t, err
		}
		saved, err := LoadContext(path)
		if err != nil {
			return t, err
		}
		if t.Server == "" {
			t.Server = saved.Server
		}
		known := saved.list()
		if t.Token == "" && !slices.ContainsFunc(t.list(), func(s string) bool { return !slices.Contains(known, s) }) {
			t.Token = saved.Token
		}
	}
	if len(t.list()) == 0 {
		return t, &failure{code: ExitUnreachable, title: "no mesh is known here", hint: "start one on this machine with `tunemesh dev`, or name a server with --server, TUNEMESH_SERVER or `tunemesh login`"}
	}
	for _, s := range t.list() {
		if err := checkServer(s); err != nil {
			return t, err
		}
	}
	return t, nil
}

func checkServer(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return &failure{code: ExitUsage, title: fmt.Sprintf("%q is not the address of a server", clip(s)), hint: "write it as http://HOST:PORT or https://HOST:PORT"}
	}
	return nil
}
