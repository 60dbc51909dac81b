package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	judge "github.com/tunemesh/tunemesh/test/gguf"
)

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```")

// blocks returns the fenced blocks of a language below a heading of a document.
func blocks(t *testing.T, file, heading, language string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../..", file))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(data), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", file, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var out []string
	for _, m := range fence.FindAllStringSubmatch(section, -1) {
		if m[1] == language {
			out = append(out, m[2])
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s, %q: no block of %s", file, heading, language)
	}
	return out
}

// The commands of the README's "Your own data", in their order, as they stand
// there; make build and dev are what this test stands on.
func TestTheCommandsOfTheReadme(t *testing.T) {
	m := newMesh(t)
	work := t.TempDir()
	rows := strings.SplitAfter(string(tickets(t)), "\n")
	if err := os.WriteFile(filepath.Join(work, "my-tickets.csv"), []byte(strings.Join(rows[:400], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(binary(t)), filepath.Join(work, "bin")); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, block := range blocks(t, "README.md", "Your own data", "sh") {
		for line := range strings.Lines(block) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
			if line == "" || line == "make build" || line == "bin/tunemesh dev" || strings.TrimSpace(line) == "bin/tunemesh dev" {
				continue
			}
			if strings.Contains(line, "JOB") {
				jobs, err := m.client().Jobs(t.Context())
				if err != nil || len(jobs) == 0 {
					t.Fatalf("%s: no job yet (%v)", line, err)
				}
				line = strings.ReplaceAll(line, "JOB", jobs[0].ID)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			cmd := exec.CommandContext(ctx, "sh", "-c", line)
			cmd.Dir = work
			cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(m.dir, "config")) // dev logged this user in
			out, err := cmd.CombinedOutput()
			cancel()
			if err != nil {
				t.Fatalf("%s: %v\n%s", line, err, tail(string(out), 3000))
			}
			ran++
		}
	}
	if ran < 4 {
		t.Errorf("only %d commands were found", ran)
	}
	if _, err := os.Stat(filepath.Join(work, "result", "adapter", "adapter_model.safetensors")); err != nil {
		found, _ := filepath.Glob(filepath.Join(work, "result", "*"))
		t.Errorf("no adapter was fetched: %v %v", err, found)
	}
}

// The demo's bucket layout: every place that the README's table names holds
// something of the job.
func TestTheBucketLayout(t *testing.T) {
	m := newMesh(t)
	ds := m.upload("support-tickets.csv", tickets(t))
	job := m.await(m.submit(api.JobSpec{Dataset: ds.ID, Config: []byte(short)}).ID, 5*time.Minute)
	if job.State != api.JobSucceeded {
		t.Fatalf("job is %s: %s", job.State, job.Reason)
	}
	data := filepath.Join(m.dir, "controlplane", "s3", "data")
	for _, want := range []string{
		"datasets/raw/" + ds.ID + ".csv",
		"datasets/processed/JOB/*/train.jsonl",
		"models/base/tunemesh-mini/*/manifest.json",
		"models/adapters/JOB/*/adapter/adapter_config.json",
		"models/adapters/JOB/*/adapter/adapter_model.safetensors",
		"models/merged/JOB/*/merged/config.json",
		"models/merged/JOB/*/merged/model.safetensors",
		"models/gguf/JOB/*/*_F16.gguf",
		"checkpoints/JOB/epoch_1/*/adapter_model.safetensors",
		"artifacts/JOB/metrics.json",
		"artifacts/JOB/training_curve.png",
		"artifacts/JOB/model_card.json",
	} {
		pattern := filepath.Join(data, strings.ReplaceAll(want, "JOB", job.ID))
		deadline := time.Now().Add(10 * time.Second) // well-known copies come after the end
		for {
			found, err := filepath.Glob(pattern)
			if err != nil {
				t.Fatal(err)
			}
			if len(found) > 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("nothing at %s", want)
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	t.Run("llama.cpp loads the GGUF", func(t *testing.T) {
		j := judge.New(t)
		files, err := filepath.Glob(filepath.Join(data, "models/gguf", job.ID, "*", "*_F16.gguf"))
		if err != nil || len(files) != 1 {
			t.Fatalf("files: %v %v", files, err)
		}
		a, err := j.Ask(t.Context(), judge.Request{Model: files[0], Texts: []string{"<|im_start|>user\nhello<|im_end|>\n"}, Sequences: [][]int32{{1, 300, 301, 302}}})
		if err != nil {
			t.Fatal(err)
		}
		if a.Metadata.Architecture != "llama" || a.EOS != 2 || len(a.Sequences[0]) != 4 || len(a.Texts[0]) < 4 {
			t.Errorf("llama.cpp sees %+v, end of turn %d, %d positions", a.Metadata, a.EOS, len(a.Sequences[0]))
		}
	})
}

// The shell stage of docs/stage-contract.md runs in a mesh, and its recipe to
// try a stage by hand works as it stands.
func TestTheStageContractsExamples(t *testing.T) {
	m := newMesh(t)
	stagePath := filepath.Join(t.TempDir(), "count.sh")
	if err := os.WriteFile(stagePath, []byte(blocks(t, "docs/stage-contract.md", "A stage in shell", "sh")[0]), 0o700); err != nil {
		t.Fatal(err)
	}
	ds := m.upload("small.csv", []byte(smallCSV))
	job := m.await(m.submit(api.JobSpec{Dataset: ds.ID, Pipeline: &api.Pipeline{Nodes: []api.StageSpec{{Name: "count", Command: []string{stagePath}}}}}).ID, time.Minute)
	if job.State != api.JobSucceeded || !strings.Contains(string(stage(t, job, "count").Output), `"lines":`) {
		t.Errorf("the example is %s: %s", job.State, pretty(job.Stages))
	}

	work := t.TempDir()
	recipe := blocks(t, "docs/stage-contract.md", "Trying a stage by hand", "sh")[0]
	recipe = strings.ReplaceAll(recipe, "/tmp/try", filepath.Join(work, "try"))
	recipe = strings.ReplaceAll(recipe, "bin/tunemesh", binary(t))
	var rows bytes.Buffer
	rows.WriteString("text,label\n")
	for i := range 20 {
		fmt.Fprintf(&rows, "sentence number %d,%s\n", i, []string{"odd", "even"}[i%2])
	}
	if err := os.WriteFile(filepath.Join(work, "my.csv"), rows.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", recipe)
	cmd.Dir = work
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"status": "success"`) {
		t.Errorf("the recipe: %v\n%s", err, out)
	}
}
