package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/cli"
)

// What this machine refuses is not told as a server that does not answer: the
// system's error numbers have the methods of an error of the network.
func TestAFaultOfThisMachineIsNoFaultOfTheNetwork(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	listen := func(address string) error {
		l, err := net.Listen("tcp", address)
		if err == nil {
			l.Close()
			t.Fatalf("%s can be listened at", address)
		}
		return fmt.Errorf("controlplane: listen for the API: %w (choose another --http-addr)", err)
	}
	_, _, noAddress := net.SplitHostPort("nonsense")
	_, missing := os.ReadFile(filepath.Join(t.TempDir(), "nothing"))
	_, notRun := os.StartProcess("/no/such/program", []string{"program"}, &os.ProcAttr{})
	for name, c := range map[string]struct {
		err  error
		code int
		want string
	}{
		"a full disk":           {&client.CallError{What: "download a", Err: &fs.PathError{Op: "write", Path: "/out/a", Err: syscall.ENOSPC}}, cli.ExitInternal, "the disk is full: /out/a cannot be written Hint: free some space"},
		"a full disk, no file":  {fmt.Errorf("sync: %w", syscall.ENOSPC), cli.ExitInternal, "the disk is full Hint:"},
		"a quota":               {&os.LinkError{Op: "rename", Old: "/out/.a", New: "/out/a", Err: syscall.EDQUOT}, cli.ExitInternal, "share of the disk is full: /out/a"},
		"a port that is taken":  {listen(taken.Addr().String()), cli.ExitUsage, "choose another --http-addr"},
		"no address to listen":  {listen("nonsense"), cli.ExitUsage, "HOST:PORT"},
		"no address in a flag":  {fmt.Errorf("--http-addr: %w", noAddress), cli.ExitUsage, "--http-addr: address nonsense: missing port in address Hint: an address to listen at is HOST:PORT"},
		"another's address":     {listen("192.0.2.1:0"), cli.ExitUsage, "this machine has no such address"},
		"a name of no machine":  {listen("no-such-host.invalid:0"), cli.ExitUsage, "controlplane: listen for the API"},
		"no file":               {fmt.Errorf("engine install: requirements: %w", missing), cli.ExitInternal, "engine install: requirements: open"},
		"no program":            {fmt.Errorf("start: %w", notRun), cli.ExitInternal, "/no/such/program"},
		"an error number":       {fmt.Errorf("lock: %w", syscall.EBADF), cli.ExitInternal, "lock: bad file descriptor"},
		"a file cut off":        {fmt.Errorf("the log: %w", io.ErrUnexpectedEOF), cli.ExitInternal, "the log: unexpected EOF"},
		"a time that is over":   {fmt.Errorf("no leader: %w", context.DeadlineExceeded), cli.ExitInternal, "no leader"},
		"a connection cut off":  {&client.CallError{What: "GET /v1/jobs", Err: io.ErrUnexpectedEOF}, cli.ExitUnreachable, "the connection to the server broke"},
		"no answer in time":     {&client.CallError{What: "GET /v1/jobs", Err: context.DeadlineExceeded}, cli.ExitUnreachable, "did not answer in time"},
		"nobody there":          {&client.CallError{What: "GET /v1/jobs", Err: &url.Error{Op: "Get", URL: "http://mesh.test/v1", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}}, cli.ExitUnreachable, "no server answers at http://mesh.test"},
		"no way there":          {&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, cli.ExitUnreachable, "the server cannot be reached"},
		"an answer of nonsense": {&client.CallError{What: "GET /v1/jobs", Err: errors.New("decode answer: invalid character")}, cli.ExitInternal, "decode answer"},
	} {
		t.Run(name, func(t *testing.T) {
			var said strings.Builder
			code := cli.Report(&said, c.err)
			if text := strings.Join(strings.Fields(said.String()), " "); code != c.code || !strings.Contains(text, c.want) {
				t.Errorf("exit code %d, %q; want %d and %q", code, text, c.code, c.want)
			}
		})
	}
}

// A snapshot that is cut off, or not there, is a fault of the file, whoever answers.
func TestABadSnapshotIsTheFilesFault(t *testing.T) {
	s := server(t, demoMesh())
	l := real(t, map[string]string{"TUNEMESH_SERVER": s.URL, "TUNEMESH_TOKEN": "secret"})
	for _, verb := range []string{"inspect", "restore"} {
		for path, want := range map[string]string{file(t, "s", "{"): "is no whole snapshot", filepath.Join(t.TempDir(), "s"): "there is no file"} {
			if r := l.run("snapshot", verb, path); r.code != cli.ExitUsage || !strings.Contains(r.err, want) {
				t.Errorf("%s: exit code %d, %s; want %q", verb, r.code, r.err, want)
			}
		}
	}
}

// With --json every error is a document, whether the verb, its arguments or its
// flags are wrong.
func TestEveryErrorIsJSONWithJSON(t *testing.T) {
	l := cmdline{t: t, mesh: demoMesh()}
	everyCommand(l.root(nil, nil), func(c *cobra.Command) {
		verb := strings.Fields(c.CommandPath())[1:]
		for _, wrong := range [][]string{{"--no-such-flag", "--json"}, {"--json", "one", "two", "three", "four"}, {"--json", "--server", "mesh"}} {
			if c.HasSubCommands() && len(wrong) == 3 {
				continue // prints its help
			}
			r := l.run(append(verb, wrong...)...)
			if r.code == 0 {
				continue // a verb that takes all of that
			}
			var p struct{ Title string }
			if err := json.Unmarshal([]byte(r.err), &p); err != nil || p.Title == "" || r.code != cli.ExitUsage && r.code != cli.ExitRefused {
				t.Errorf("%s %v: exit code %d, %q", c.CommandPath(), wrong, r.code, r.err)
			}
		}
	})
	for _, c := range []struct {
		args []string
		json bool
	}{
		{[]string{"job", "show", "nope", "--json=false"}, false},
		{[]string{"job", "show", "nope", "--json=true"}, true},
		{[]string{"job", "show", "nope"}, false},
	} {
		if r := l.run(c.args...); strings.HasPrefix(r.err, "{") != c.json {
			t.Errorf("%v: %s", c.args, r.err)
		}
	}
}

// A command that does not exist is what is wrong, not the flags that it would have.
func TestAnUnknownCommandIsNamedWhateverItsFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"there is no command tunemesh jbo; did you mean job?": {"jbo", "--state", "done"},
		"there is no command tunemesh job lost":               {"job", "lost", "--colour"},
		"unknown flag: --colour":                              {"job", "--colour"},
	} {
		if r := (cmdline{t: t, mesh: demoMesh()}).run(args...); r.code != cli.ExitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%v: exit code %d, %s; want %q", args, r.code, r.err, want)
		}
	}
}

// What counts something is never negative: nothing is made of it in silence.
func TestANegativeNumberIsRefused(t *testing.T) {
	for _, args := range [][]string{
		{"job", "list", "--limit", "-1"}, {"job", "logs", jobID, "--tail", "-3"}, {"job", "dead-letters", "--events=-2"},
		{"token", "create", "--role", "node", "--uses", "-2"}, {"dataset", "preview", "f.csv", "--samples", "-1"},
		{"node", "drain", "ws-anna", "--wait", "--timeout", "-5s"},
	} {
		if r := (cmdline{t: t, mesh: demoMesh()}).run(args...); r.code != cli.ExitUsage || !strings.Contains(r.err, "-") || r.out != "" {
			t.Errorf("%v: exit code %d, %s", args, r.code, r.err)
		}
	}
}
