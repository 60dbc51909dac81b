package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/cli"
)

// What is wrong with the line of an engine's verb, or missing on this machine, is said with
// what to do, and is no server that does not answer.
func TestAWrongEngineIsRefusedInWords(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"install", "needs the name of one engine"},
		{"install native", `there is no engine "native" to install`},
		{"install peft --accelerator tpu", `--accelerator "tpu" is none that is known`},
		{"install peft --existing /no/such/python", "/no/such/python is no program that can be started: no such file or directory Hint: name the Python"},
		{"install peft --accelerator cpu --requirements /no/such/file", "/no/such/file cannot be read: no such file or directory Hint: --requirements names"},
		{"install peft --python /no/such/python", "/no/such/python is no Python of version 3.10 or newer"},
		{"remove peft", "peft is not installed in /"},
		{"verify peft", "the engine peft is not installed Hint: `tunemesh engine install peft`"},
		{"verify peft --device tpu", `--device "tpu" is none that is known`},
		{"verify peft --shape 7b", `--shape "7b" is none that is known`},
	} {
		args := append([]string{"engine"}, strings.Fields(c.args)...)
		args = append(args, "--data-dir", t.TempDir())
		if r := line(t.Context(), args...); r.code != cli.ExitUsage || !strings.Contains(r.err, c.want) {
			t.Errorf("%s: exit code %d, %s; want %q", c.args, r.code, r.err, c.want)
		}
		if c.args == "remove peft" {
			continue // has nothing to print as JSON
		}
		r := line(t.Context(), append(args, "--json")...)
		var p struct{ Title string }
		said := r.err
		if i := strings.Index(said, "{"); i > 0 { // after the lines of progress
			said = said[i:]
		}
		if err := json.Unmarshal([]byte(said), &p); err != nil || p.Title == "" || r.code != cli.ExitUsage || r.out != "" {
			t.Errorf("%s --json: exit code %d, %s", c.args, r.code, r.err)
		}
	}
}
