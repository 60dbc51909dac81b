package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/models"
)

// A preview that cannot be made says where the fault is and what to do.
func TestAPreviewsFaultsAreExplained(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	model := filepath.Join(dir, "model")
	if err := os.CopyFS(model, models.Mini()); err != nil {
		t.Fatal(err)
	}
	write("model/chat_template.jinja", "{% for m in messages %}{{ m.role }}{% endfor %}")
	good, empty := write("good.csv", "text,label\nhello,a\n"), write("empty.csv", "")
	for _, c := range []struct{ file, model, config, want string }{
		{good, model, `{}`, "Error: the model's chat template cannot be trained with: it writes a question 0 times"},
		{good, "", `{"training":{"bogus":1}}`, "Error: config training.bogus is not a field of the config\nHint: docs/config.md"},
		{good, "", `{"task":"nope"}`, `Error: config task is "nope", want one of`},
		{good, "", `{"text_column":"zzz"}`, `Error: good.csv, column "zzz": the file has no column of this name; it has: text, label` + "\nHint: "},
		{empty, "", `{}`, "Error: empty.csv: the file is empty\nHint: "},
	} {
		_, err := previewDataset(t.Context(), cli.PreviewRequest{File: c.file, Name: filepath.Base(c.file), ModelDir: c.model, Config: json.RawMessage(c.config)})
		var said strings.Builder
		if code := cli.Report(&said, err); code != cli.ExitUsage || !strings.HasPrefix(said.String(), c.want) {
			t.Errorf("%s: code %d, %q, want %q", c.config, code, said.String(), c.want)
		}
	}
}
