package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli"
)

const someDataset = "ds_3f2a9c41d07b8e65"

// file writes a file of the test's own.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigIsPutTogether(t *testing.T) {
	base := file(t, "job.json", "\xef\xbb\xbf{\"task\":\"chat\",\"training\":{\"rank\":4,\"epochs\":2},\"big\":12345678901234567890}")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing":           {nil, ``},
		"numbers":           {[]string{"--set", "training.rank=16", "--set", "training.learning_rate=3e-4", "--set", "training.dropout=.5"}, `{"training":{"rank":16,"learning_rate":3e-4,"dropout":0.5}}`},
		"bool and null":     {[]string{"--set", "export.skip_merged=true", "--set", "x=null"}, `{"export":{"skip_merged":true},"x":null}`},
		"text":              {[]string{"--set", "instruction=Say which queue, a = b"}, `{"instruction":"Say which queue, a = b"}`},
		"text like numbers": {[]string{"--set", "text_column=2024", "--set", "preprocessing.pii=true"}, `{"text_column":"2024","preprocessing":{"pii":"true"}}`},
		"list by commas":    {[]string{"--set", "training.target_modules=q_proj, v_proj", "--set", "export.gguf=q8_0"}, `{"training":{"target_modules":["q_proj","v_proj"]},"export":{"gguf":["q8_0"]}}`},
		"JSON":              {[]string{"--set", `export.gguf=["f16","q8_0"]`, "--set", `dataset={"format":"tsv"}`, "--set", `x="5"`}, `{"export":{"gguf":["f16","q8_0"]},"dataset":{"format":"tsv"},"x":"5"}`},
		"empty":             {[]string{"--set", "x="}, `{"x":""}`},
		"no number":         {[]string{"--set", "x=1.2.3", "--set", "y=NaN", "--set", "z=0x10"}, `{"x":"1.2.3","y":"NaN","z":"0x10"}`},
		"flags":             {[]string{"--task", "qa", "--text-column", "question", "--label-column", "answer", "--model", "m"}, `{"task":"qa","text_column":"question","label_column":"answer","model":"m"}`},
		"file":              {[]string{"--config", base}, `{"task":"chat","training":{"rank":4,"epochs":2},"big":12345678901234567890}`},
		"later wins":        {[]string{"--config", base, "--task", "qa", "--set", "training.rank=8", "--set", "training.rank=9"}, `{"task":"qa","training":{"rank":9,"epochs":2},"big":12345678901234567890}`},
	} {
		t.Run(name, func(t *testing.T) {
			m := demoMesh()
			r := cmdline{t: t, mesh: m}.run(append([]string{"job", "submit", "--dataset", someDataset}, c.args...)...)
			if r.code != 0 || len(m.submitted) != 1 {
				t.Fatalf("exit code %d: %s", r.code, r.err)
			}
			got := string(m.submitted[0].Config)
			if !sameJSON(t, got, c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	if a == "" || b == "" {
		return a == b
	}
	norm := func(s string) string {
		d := json.NewDecoder(strings.NewReader(s))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		out, _ := json.Marshal(v)
		return string(out)
	}
	return norm(a) == norm(b)
}

func TestWrongSubmissionsAreRefusedBeforeAnythingIsSent(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no key":          {[]string{"--set", "=1"}, "is no KEY=VALUE"},
		"no value":        {[]string{"--set", "training.rank"}, "is no KEY=VALUE"},
		"empty part":      {[]string{"--set", "training..rank=1"}, "empty part"},
		"through a value": {[]string{"--set", "training=1", "--set", "training.rank=2"}, "training is a value"},
		"broken JSON":     {[]string{"--set", "export.gguf=[f16"}, "looks like JSON but is none"},
		"two JSONs":       {[]string{"--set", "x=[1][2]"}, "looks like JSON but is none"},
		"priority":        {[]string{"--priority", "101"}, "not between"},
		"priority text":   {[]string{"--priority", "high"}, "priority"},
		"id":              {[]string{"--id", "7"}, "no ULID"},
		"label":           {[]string{"--label", "x"}, "KEY=VALUE"},
		"config list":     {[]string{"--config", file(t, "c.json", "[1]")}, "is no config"},
		"config syntax":   {[]string{"--config", file(t, "c.json", "{\n\"a\": }")}, "line 2"},
		"config empty":    {[]string{"--config", file(t, "c.json", "")}, "it is empty"},
		"config cut":      {[]string{"--config", file(t, "c.json", `{"a":`)}, "ends in the middle"},
		"config twice":    {[]string{"--config", file(t, "c.json", "{}{}")}, "more than one"},
		"config missing":  {[]string{"--config", filepath.Join(dir, "no.json")}, "there is no file"},
		"pipeline cycle":  {[]string{"--pipeline", file(t, "p.json", `{"nodes":[{"name":"dataset"},{"name":"validation"}],"edges":[{"from":"dataset","to":"validation"},{"from":"validation","to":"dataset"}]}`)}, "pipeline.edges: form a cycle: dataset -> validation -> dataset"},
		"pipeline key":    {[]string{"--pipeline", file(t, "p.json", `{"stages":[]}`)}, "unknown field"},
		"pipeline type":   {[]string{"--pipeline", file(t, "p.json", `{"nodes":"x"}`)}, "nodes: a string does not fit there"},
		"dataset missing": {[]string{"--dataset", "tickets.csv"}, "there is no file tickets.csv"},
		"dataset folder":  {[]string{"--dataset", dir}, "is a directory"},
		"dataset empty":   {[]string{"--dataset", file(t, "e.csv", "")}, "is empty"},
		"two stdins":      {[]string{"--dataset", "-", "--config", "-"}, "only one"},
		"argument":        {[]string{"tickets.csv"}, "does not know what to do with"},
	} {
		t.Run(name, func(t *testing.T) {
			m := demoMesh()
			args := []string{"job", "submit"}
			if c.args[0] != "--dataset" {
				args = append(args, "--dataset", someDataset)
			}
			r := cmdline{t: t, mesh: m}.run(append(args, c.args...)...)
			said := strings.Join(strings.Fields(r.err), " ")
			if r.code != cli.ExitUsage || !strings.Contains(said, c.want) || len(m.submitted)+len(m.uploads) > 0 {
				t.Errorf("exit code %d, %q; want 2 and %q", r.code, said, c.want)
			}
			if strings.Contains(said, "json:") || strings.Contains(said, "open ") || strings.Contains(said, "0x") {
				t.Errorf("this is no language for people: %q", said)
			}
		})
	}
}

func TestAFileIsUploadedAndSubmitted(t *testing.T) {
	m := demoMesh()
	r := cmdline{t: t, mesh: m}.run("job", "submit", "--dataset", file(t, "t.csv", "text,label\na,b\n"), "--name", "nightly", "--priority", "5", "--label", "team=support", "--id", jobID,
		"--pipeline", file(t, "p.json", `{"nodes":[{"name":"dataset"},{"name":"mine","command":["sh","x.sh"]}],"edges":[{"from":"dataset","to":"mine"}]}`))
	if r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	s := m.submitted[0]
	if m.uploads[0] != "text,label\na,b\n" || s.Dataset != "ds_00000000000000aa" || s.Name != "nightly" || s.Priority != 5 || s.Labels["team"] != "support" || s.ID != jobID || len(s.Pipeline.Nodes) != 2 {
		t.Errorf("uploaded %q, submitted %+v", m.uploads, s)
	}
	if !strings.Contains(r.err, "Uploaded t.csv as ds_00000000000000aa") {
		t.Errorf("said %q", r.err)
	}
}

func TestASubmissionOfUnknownOutcomeCanBeRepeated(t *testing.T) {
	for _, err := range []error{refused, &api.Problem{Title: "no leader", Status: 503, Outcome: "unknown"}} {
		m := demoMesh()
		m.submitError = err
		r := cmdline{t: t, mesh: m}.run("job", "submit", "--dataset", someDataset)
		again := "--dataset " + someDataset + " --id " + m.submitted[0].ID
		if r.code == 0 || m.submitted[0].ID == "" || !strings.Contains(strings.Join(strings.Fields(r.err), " "), again) {
			t.Errorf("exit code %d, %q; want %q", r.code, r.err, again)
		}
	}
}

func TestUpload(t *testing.T) {
	t.Run("standard input", func(t *testing.T) {
		m := demoMesh()
		r := cmdline{t: t, mesh: m, stdin: strings.NewReader("{}\n")}.run("dataset", "upload", "-", "--name", "x.jsonl", "--json")
		var d struct{ Name string }
		if err := json.Unmarshal([]byte(r.out), &d); err != nil || d.Name != "x.jsonl" || m.uploads[0] != "{}\n" {
			t.Errorf("got %q, uploaded %q", r.out, m.uploads)
		}
	})
	t.Run("a bar on a terminal only", func(t *testing.T) {
		path := file(t, "big.csv", strings.Repeat("a,b\n", 50_000))
		if r := (cmdline{t: t, mesh: demoMesh()}).run("dataset", "upload", path); strings.Contains(r.err, "\r") || r.code != 0 {
			t.Errorf("without a terminal: %q", r.err)
		}
		r := cmdline{t: t, mesh: demoMesh(), screen: cli.Screen{Terminal: true, Width: 80, Height: 24}}.run("dataset", "upload", path)
		if !strings.Contains(r.err, "upload big.csv") || !strings.Contains(r.err, "200 kB of 200 kB") || strings.Contains(r.out, "\r") {
			t.Errorf("on a terminal: %q", r.err)
		}
	})
	for name, args := range map[string][]string{
		"is a directory":             {t.TempDir()},
		"there is no file":           {"/nonexistent/x.csv"},
		"standard input is empty":    {"-"},
		"e.csv is empty":             {file(t, "e.csv", "")},
		"needs FILE":                 {},
		"not know what to do with":   {file(t, "a.csv", "x"), "b.csv"},
		"unknown flag: --nome":       {"-", "--nome", "x"},
		"flag needs an argument: -n": {"-", "--name"},
	} {
		m := demoMesh()
		r := cmdline{t: t, mesh: m}.run(append([]string{"dataset", "upload"}, args...)...)
		if r.code != cli.ExitUsage || !strings.Contains(strings.Join(strings.Fields(r.err), " "), strings.TrimSuffix(name, " -n")) || len(m.uploads) > 0 {
			t.Errorf("%v: exit code %d, %q; want %q", args, r.code, r.err, name)
		}
	}
}

func FuzzSet(f *testing.F) {
	for _, seed := range []string{"training.rank=16", "a.b.c=[1,{}]", "export.gguf=,", "x=\"", "=", "a.=1", "x=1e999", "x=-0", "x=01"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, assignment string) {
		m := &fakeMesh{}
		r := cmdline{t: t, mesh: m, env: map[string]string{"TUNEMESH_SERVER": "http://mesh.test", "XDG_CONFIG_HOME": "/nonexistent"}}.run("job", "submit", "--dataset", someDataset, "--set="+assignment)
		if r.code == 0 && !json.Valid(m.submitted[0].Config) {
			t.Fatalf("--set %q makes %q", assignment, m.submitted[0].Config)
		}
		if r.code != 0 && r.code != cli.ExitUsage {
			t.Fatalf("--set %q ends with %d: %s", assignment, r.code, r.err)
		}
	})
}
