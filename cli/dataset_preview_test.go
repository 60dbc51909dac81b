package cli_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli"
)

// fakePreview shows the file's text, and what it was asked for as the instruction.
func fakePreview(_ context.Context, r cli.PreviewRequest) (cli.DatasetPreview, error) {
	data, err := os.ReadFile(r.File)
	if err != nil {
		return cli.DatasetPreview{}, err
	}
	files, _ := filepath.Glob(filepath.Join(r.ModelDir, "*.json"))
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	if r.ModelDir == "" {
		files = nil
	}
	return cli.DatasetPreview{
		Task: "qa", InputColumn: "question", LabelColumn: "answer", Template: "own", Instruction: r.Name + " " + string(r.Config) + " " + strings.Join(files, ","),
		TokenLimit: 128, Rows: 100, Samples: 98, Tokens: 9800, LossTokens: 980, MaxTokens: 120, CutOff: 2, Warnings: []string{"2 samples are longer"},
		Faults:  []cli.PreviewFault{{Stage: "preprocessing", Code: "ANSWERS_CUT_OFF", Message: "too many at row 7", Row: 7, Hint: "shorten them"}},
		Longest: []cli.PreviewLength{{Row: 7, Tokens: 1234}},
		Shown: []cli.PreviewSample{{Row: 2, Split: "train", Tokens: 12, LossTokens: 3, CutOff: true, IDs: []int32{1, 2}, Loss: [][2]int{{1, 2}},
			Pieces: []cli.PreviewPiece{{Text: "<user>\n" + string(data) + "\x1b[31m</user>"}, {Text: "answer\nin two lines<end>", Loss: true}, {Text: "\n"}}}},
	}, nil
}

func TestAPreviewMarksWhatIsLearned(t *testing.T) {
	file := filepath.Join(t.TempDir(), "qa.jsonl")
	if err := os.WriteFile(file, []byte("why?"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := cmdline{t: t}.run("dataset", "preview", file)
	if r.code != cli.ExitUsage { // a job would be refused
		t.Fatalf("%+v", r)
	}
	golden(t, "dataset-preview.golden", r.out+r.err)
	r = cmdline{t: t}.run("dataset", "preview", file, "--json", "--task", "qa", "--set", "preprocessing.max_length=64")
	var p cli.DatasetPreview
	if err := json.Unmarshal([]byte(r.out), &p); err != nil || r.code != cli.ExitUsage || r.err != "" || len(p.Faults) != 1 || len(p.Shown) != 1 || !p.Shown[0].Pieces[1].Loss {
		t.Fatalf("%+v, %v", r, err)
	}
	if !strings.HasPrefix(p.Instruction, "qa.jsonl {") || !strings.Contains(p.Instruction, `"task":"qa"`) || !strings.Contains(p.Instruction, `"max_length":64`) || !strings.HasSuffix(p.Instruction, "} ") {
		t.Errorf("asked for %s", p.Instruction)
	}
}

// A file is read more than once, which a pipe does not allow.
func TestAPreviewReadsStandardInput(t *testing.T) {
	r := cmdline{t: t, stdin: strings.NewReader("why?")}.run("dataset", "preview", "-", "--name", "qa.jsonl", "--json")
	var p cli.DatasetPreview
	if err := json.Unmarshal([]byte(r.out), &p); err != nil || !strings.Contains(p.Shown[0].Pieces[0].Text, "why?") || !strings.HasPrefix(p.Instruction, "qa.jsonl ") {
		t.Errorf("%+v, %v", r, err)
	}
	for want, args := range map[string][]string{
		"standard input is empty": {"-"},
		"is a directory":          {t.TempDir()},
		"only one of FILE and":    {"-", "--config", "-"},
	} {
		if r := (cmdline{t: t}).run(append([]string{"dataset", "preview"}, args...)...); r.code != cli.ExitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// A dataset and a model of the mesh are fetched: of the model the small files only.
func TestAPreviewOfWhatTheMeshHas(t *testing.T) {
	mesh := demoMesh()
	id := mesh.datasets[0].ID
	mesh.bytes = map[string]string{id: "of the mesh", "config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "large"}
	mesh.objects = map[string][]api.Artifact{"files of mine": {{Name: "config.json", Size: 2}, {Name: "tokenizer.json", Size: 2}, {Name: "model.safetensors", Size: 5}}}
	r := cmdline{t: t, mesh: mesh}.run("dataset", "preview", id, "--model", "mine", "--json")
	var p cli.DatasetPreview
	if err := json.Unmarshal([]byte(r.out), &p); err != nil || !strings.Contains(p.Shown[0].Pieces[0].Text, "of the mesh") || !strings.HasSuffix(p.Instruction, " config.json,tokenizer.json") {
		t.Errorf("%+v, %v", r, err)
	}
	for want, args := range map[string][]string{
		"there is no model": {id, "--model", "other"},
		"cannot be read":    {"nothing.csv"},
		"not between":       {id, "--samples", "9999"},
	} {
		if r := (cmdline{t: t, mesh: mesh}).run(append([]string{"dataset", "preview"}, args...)...); r.code != cli.ExitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
