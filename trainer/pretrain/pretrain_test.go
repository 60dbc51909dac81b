package pretrain_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/pretrain"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// recipe is the real one, made tiny.
func recipe(t *testing.T) pretrain.Config {
	t.Helper()
	c := pretrain.Mini()
	c.Shape.HiddenSize, c.Shape.IntermediateSize, c.Shape.NumLayers, c.Shape.NumHeads, c.Shape.NumKVHeads, c.Shape.HeadDim = 32, 48, 2, 2, 1, 16
	c.Vocab, c.RowTokens, c.RowsPerStep, c.Steps, c.Warmup, c.SaveEvery = 300, 24, 4, 12, 2, 4
	c.Dir, c.Work = t.TempDir(), t.TempDir()
	c.Log = slog.New(slog.DiscardHandler)
	return c
}

func corpus() pretrain.Corpus {
	var prose []string
	for i := range 300 {
		prose = append(prose, fmt.Sprintf("The parcel number %d has not arrived and the customer asks when the %d lamps will be sent again.", i, i%7))
	}
	return pretrain.Gather(prose, 1)
}

// stopAfter cancels when the log reports a checkpoint.
type stopAfter struct {
	slog.Handler
	cancel context.CancelFunc
}

func (s stopAfter) Enabled(context.Context, slog.Level) bool { return true }

func (s stopAfter) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "step" {
		s.cancel()
	}
	return nil
}

func TestARecipeThatWasStoppedMakesTheSameModel(t *testing.T) {
	calm := recipe(t)
	report, err := pretrain.Run(t.Context(), calm, corpus())
	if err != nil {
		t.Fatal(err)
	}
	if report.Tokens != 12*4*24 || !(report.HeldOutLoss < 5.7) { // ln 300 = 5.7: what knows nothing has
		t.Errorf("%+v", report)
	}

	stopped := recipe(t)
	ctx, cancel := context.WithCancel(t.Context())
	stopped.Log = slog.New(stopAfter{slog.DiscardHandler, cancel})
	if _, err := pretrain.Run(ctx, stopped, corpus()); err == nil || !strings.Contains(err.Error(), "step 4 of 12") {
		t.Fatalf("stopped at the first checkpoint: %v", err)
	}
	stopped.Log = slog.New(slog.DiscardHandler)
	if _, err := pretrain.Run(t.Context(), stopped, corpus()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config.json", "tokenizer.json", weights.SingleName} {
		a, errA := os.ReadFile(filepath.Join(calm.Dir, name))
		b, errB := os.ReadFile(filepath.Join(stopped.Dir, name))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs (%v %v)", name, errA, errB)
		}
	}
}

func TestTheModelsFolderIsOneThatTheTrainerReads(t *testing.T) {
	c := recipe(t)
	if _, err := pretrain.Run(t.Context(), c, corpus()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(c.Dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	shape, err := model.ParseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	files, err := weights.Open(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	if _, err := model.Load(shape, files); err != nil {
		t.Error(err)
	}
	if tok, err := tokenizer.Load(filepath.Join(c.Dir, "tokenizer.json")); err != nil || tok.VocabSize() != shape.VocabSize {
		t.Errorf("vocabulary of %d (%v)", shape.VocabSize, err)
	}
	if tmpl, err := template.ForModel(c.Dir); err != nil || tmpl.Name() != "chatml" {
		t.Errorf("template: %v", err)
	}
}

// The demo would prove nothing if the base model had seen its labels as answers
// or its question.
func TestTheCorpusKnowsNothingOfTheDemosTask(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	prose, err := pretrain.GoComments(filepath.Join(strings.TrimSpace(string(root)), "src", "net"))
	if err != nil {
		t.Fatal(err)
	}
	c := pretrain.Gather(prose, 3)
	if len(c.Train) < 100 {
		t.Fatalf("only %d documents", len(c.Train))
	}
	for _, doc := range append(c.Train, c.HeldOut...) {
		if strings.Contains(strings.ToLower(doc), "one of these labels") || strings.Contains(strings.ToLower(doc), "classify the text") {
			t.Errorf("the demo's question is in the corpus: %s", doc)
		}
	}
}
