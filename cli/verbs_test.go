package cli_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/cli/format"
)

const (
	runningID = "01JDCK9999999999999999RUN0"
	failedID  = "01JDCK8888888888888888FA10"
)

// lines are the command lines whose output is kept in testdata.
var lines = map[string][]string{
	"dataset-list":      {"dataset", "list"},
	"dataset-show":      {"dataset", "show", "ds_3f2a9c41d07b8e65"},
	"job-list":          {"job", "list"},
	"job-show-done":     {"job", "show", jobID},
	"job-show-running":  {"job", "show", runningID},
	"job-show-failed":   {"job", "show", failedID},
	"job-watch-done":    {"job", "watch", jobID},
	"job-watch-failed":  {"job", "watch", failedID},
	"job-logs":          {"job", "logs", jobID},
	"job-logs-warn":     {"job", "logs", jobID, "--level", "warn"},
	"job-cancel":        {"job", "cancel", runningID},
	"job-resume":        {"job", "resume", failedID},
	"job-dead-letters":  {"job", "dead-letters"},
	"job-submit":        {"job", "submit", "--dataset", "ds_3f2a9c41d07b8e65"},
	"node-list":         {"node", "list"},
	"node-show":         {"node", "show", "ws-anna"},
	"node-show-gpu":     {"node", "show", "n-aaaaaaaaaaaa"},
	"node-drain":        {"node", "drain", "n-5f0c2b9a7e31"},
	"artifact-list":     {"artifact", "list", jobID},
	"artifact-get":      {"artifact", "get", jobID, "metrics.json", "-o", "-"},
	"model-list":        {"model", "list"},
	"model-show":        {"model", "show", "tunemesh-mini"},
	"version":           {"version"},
	"error-not-found":   {"job", "show", "01JDCK0000000000000000NONE"},
	"error-usage":       {"job", "watch"},
	"error-no-command":  {"job", "wach"},
	"error-bad-flag":    {"job", "list", "--colour"},
	"error-bad-state":   {"job", "list", "--state", "done"},
	"error-no-dataset":  {"job", "submit"},
	"error-no-artifact": {"artifact", "get", jobID, "nothing"},
}

var codes = map[string]int{
	"job-watch-failed": cli.ExitJobFailed, "error-not-found": cli.ExitRefused, "error-usage": cli.ExitUsage, "error-no-command": cli.ExitUsage,
	"error-bad-flag": cli.ExitUsage, "error-bad-state": cli.ExitUsage, "error-no-dataset": cli.ExitUsage, "error-no-artifact": cli.ExitRefused,
}

func TestOutputOfEveryVerb(t *testing.T) {
	for name, args := range lines {
		t.Run(name, func(t *testing.T) {
			r := cmdline{t: t, mesh: demoMesh()}.run(args...)
			if r.code != codes[name] {
				t.Errorf("exit code %d, want %d", r.code, codes[name])
			}
			golden(t, name+".golden", r.out+"--- stderr\n"+r.err)
			if strings.Contains(r.out+r.err, "\x1b") {
				t.Error("escape sequences without a terminal")
			}
			if !strings.HasPrefix(name, "job-logs") {
				narrow(t, name, r.out+r.err, 100)
			}
		})
	}
}

func TestColouredOutputSaysTheSame(t *testing.T) {
	for name, args := range lines {
		if strings.HasPrefix(name, "job-watch") {
			continue // another view
		}
		plain := cmdline{t: t, mesh: demoMesh()}.run(args...)
		coloured := cmdline{t: t, mesh: demoMesh(), screen: cli.Screen{Terminal: true, Width: 100, Height: 40, Style: format.Style{On: true}}}.run(args...)
		if got := stripANSI(coloured.out); got != plain.out {
			t.Errorf("%s: without its colours the output is\n%s\nwant\n%s", name, got, plain.out)
		}
	}
}

func TestTablesFitNarrowTerminals(t *testing.T) {
	for _, name := range []string{"dataset-list", "job-list", "model-list"} {
		r := cmdline{t: t, mesh: demoMesh(), screen: cli.Screen{Width: 80, Height: 24}}.run(lines[name]...)
		narrow(t, name, r.out, 80)
	}
}

// stripANSI removes colour sequences.
func stripANSI(s string) string {
	for {
		i := strings.Index(s, "\x1b[")
		if i < 0 {
			return s
		}
		j := strings.IndexByte(s[i:], 'm')
		s = s[:i] + s[i+j+1:]
	}
}

func TestJSONOfEveryVerbDecodes(t *testing.T) {
	shape := map[string]string{
		"dataset-list": "[", "job-list": "[", "node-list": "[", "artifact-list": "[", "model-list": "[", "job-dead-letters": "[",
		"dataset-show": "{", "job-show-done": "{", "node-show": "{", "model-show": "{", "version": "{", "job-cancel": "{", "job-resume": "{", "job-submit": "{", "node-drain": "{",
		"job-logs": "{", "job-watch-done": "{", "job-watch-failed": "{",
	}
	for name, start := range shape {
		r := cmdline{t: t, mesh: demoMesh()}.run(append(lines[name], "--json")...)
		if r.code != codes[name] {
			t.Errorf("%s: exit code %d: %s", name, r.code, r.err)
		}
		d := json.NewDecoder(strings.NewReader(r.out))
		n := 0
		for d.More() {
			var v json.RawMessage
			if err := d.Decode(&v); err != nil {
				t.Errorf("%s: %v in %q", name, err, r.out)
				break
			}
			if !strings.HasPrefix(string(v), start) {
				t.Errorf("%s: starts with %.20s, want %s", name, v, start)
			}
			n++
		}
		if stream := strings.HasPrefix(name, "job-logs") || strings.HasPrefix(name, "job-watch"); (n > 1) != stream {
			t.Errorf("%s: %d documents", name, n)
		}
	}
}

func TestEmptyListsAreJSONArraysAndSentences(t *testing.T) {
	for _, name := range []string{"dataset-list", "job-list", "node-list", "artifact-list", "model-list", "job-dead-letters"} {
		if r := (cmdline{t: t, mesh: &fakeMesh{}}).run(append(lines[name], "--json")...); r.out != "[]\n" {
			t.Errorf("%s --json of nothing is %q", name, r.out)
		}
		if r := (cmdline{t: t, mesh: &fakeMesh{}}).run(lines[name]...); !strings.HasSuffix(strings.TrimSpace(r.out), ".") && !strings.Contains(r.out, ": tunemesh") {
			t.Errorf("%s of nothing is %q, want a sentence", name, r.out)
		}
	}
}

func TestErrorsAreJSONWithJSON(t *testing.T) {
	r := cmdline{t: t, mesh: demoMesh()}.run("job", "show", "nope", "--json")
	var p struct {
		Title  string
		Status int
	}
	if err := json.Unmarshal([]byte(r.err), &p); err != nil || p.Status != 404 || p.Title == "" || r.out != "" {
		t.Errorf("got %q and %q (%v), want a problem document on standard error", r.out, r.err, err)
	}
}

// everyCommand visits all commands below the root.
func everyCommand(c *cobra.Command, visit func(*cobra.Command)) {
	for _, child := range c.Commands() {
		visit(child)
		everyCommand(child, visit)
	}
}

func TestEveryVerbHasHelpWithAnExample(t *testing.T) {
	n := 0
	everyCommand(cmdline{t: t, mesh: demoMesh()}.root(nil, nil), func(c *cobra.Command) {
		n++
		if c.Example == "" || c.Short == "" || c.Long == "" {
			t.Errorf("%s lacks an example or a description", c.CommandPath())
		}
		if !c.HasSubCommands() && !strings.Contains(c.Long, "--json") {
			t.Errorf("%s does not say what --json prints", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			if !strings.Contains(line, "tunemesh ") {
				t.Errorf("%s: example %q is no command line", c.CommandPath(), line)
			}
		}
		r := cmdline{t: t, mesh: demoMesh()}.run(append(strings.Fields(c.CommandPath())[1:], "--help")...)
		if r.code != 0 || !strings.Contains(r.out, "Examples:") {
			t.Errorf("%s --help: exit code %d", c.CommandPath(), r.code)
		}
		narrow(t, c.CommandPath()+" --help", r.out, 100)
	})
	if n < 25 {
		t.Errorf("only %d commands were found", n)
	}
}

func TestHostileTextCannotSteerTheTerminal(t *testing.T) {
	m := demoMesh()
	evil := "x\x1b[2J\x1b]0;owned\x07\u202e\r\ny"
	m.datasets[0].Name, m.jobs[1].Name, m.jobs[0].Name, m.nodes[0].Name, m.models[0].Architecture = evil, evil, evil, evil, evil
	m.jobs[2].Reason, m.jobs[2].Stages[1].Error.Message, m.letters[0].Error.Hint, m.artifacts[0].Name = evil, evil, evil, evil
	m.jobs[0].Stages[2].WaitReason = evil
	for i := range m.events {
		m.events[i].Message = evil
	}
	for name, args := range lines {
		r := cmdline{t: t, mesh: m}.run(args...)
		if strings.ContainsAny(r.out+r.err, "\x1b\x07\r\u202e") {
			t.Errorf("%s lets control characters through: %q", name, r.out+r.err)
		}
	}
}
