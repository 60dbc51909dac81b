package export_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/export"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/preprocessing"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tokenizer/sentencepiece"
	"github.com/tunemesh/tunemesh/trainer/training"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// normalizing gives the model in dir a tokenizer.model of SentencePiece that normalizes.
func normalizing(t *testing.T, dir, kind string) {
	t.Helper()
	data, err := os.ReadFile("../tokenizer/sentencepiece/testdata/" + kind + ".model")
	if err != nil {
		t.Fatal(err)
	}
	m, err := sentencepiece.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	file, err := m.TokenizerJSON(sentencepiece.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"tokenizer.json": file, "tokenizer_config.json": []byte(`{"eos_token":"</s>","bos_token":"<s>"}`)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A model whose text is normalized is trained and exported: the merged model and the GGUF
// file give a text that has to be normalized the ids that were trained.
func TestAModelThatNormalizesGoesTheWholeWay(t *testing.T) {
	var rows strings.Builder
	for i := range 40 {
		fmt.Fprintf(&rows, `{"text":"Ｔｈｅ  mesh %d ﬁnds\u3000no %s node","label":"%s"}`+"\n", i, []string{"a", "b"}[i%2], []string{"one", "two"}[i%2])
	}
	in := stagetest.Input(t, "dataset", "rows.jsonl", []byte(rows.String()), `{"template":"alpaca","model":"tiny","training":{"epochs":1},"export":{"gguf":["q8_0"]}}`)
	base := t.TempDir()
	tunedtest.WriteModel(t, base, []byte(strings.Repeat(rows.String(), 3)), weights.F32)
	normalizing(t, base, "unigram-nfkc")
	tunedtest.AddTree(t, &in, contract.ModelInputs, "", base)
	for _, s := range []struct {
		run  contract.Stage
		next string
	}{{dataset.Run, "preprocessing"}, {preprocessing.Run, "training"}, {training.Run, "export"}} {
		r, _, err := stagetest.Run(context.Background(), t, s.run, in)
		if err != nil {
			t.Fatalf("before %s: %v", s.next, err)
		}
		in = tunedtest.Follow(t, in, r, s.next)
	}
	_, summary, _ := run(t, &in)
	if p := summary.Parity["job_Q8_0.gguf"]; p.Positions == 0 {
		t.Errorf("parity %+v", p)
	}
	imported := t.TempDir()
	if _, err := gguf.Import(context.Background(), filepath.Join(in.OutputDir, "job_Q8_0.gguf"), imported, gguf.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	trained, err := tokenizer.Load(base)
	if err != nil {
		t.Fatal(err)
	}
	const text = "Ｔｈｅ \u3000mesh ﬁnds e\u0301 "
	want := trained.Encode(text, false)
	if slices.Equal(want, trained.Encode("The mesh", false)) || !slices.Equal(want, trained.Encode("The mesh finds \u00e9", false)) {
		t.Errorf("the text is not normalized: %v", want)
	}
	for _, dir := range []string{filepath.Join(in.OutputDir, "merged"), imported} {
		tok, err := tokenizer.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Encode(text, false); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", filepath.Base(dir), got, want)
		}
	}
}

// BPE that normalizes has no form in GGUF: a job that asks for one is told before it trains.
func TestANormalizationThatGGUFCannotCarryIsRefusedBeforeTraining(t *testing.T) {
	in := tunedtest.JobOf(t, tunedtest.Tickets(40), `{}`, weights.F32, func(c *model.Config) { c.VocabSize = 1000 })
	dir, err := in.Dir(contract.ModelInputs, "")
	if err != nil {
		t.Fatal(err)
	}
	normalizing(t, dir, "bpe-nfkc")
	var fault *contract.Error
	if err := export.Check(dir, []string{"q8_0"}); !errors.As(err, &fault) || fault.Code != "NOT_CONVERTIBLE" || !strings.Contains(fault.Message, "normalized by a precompiled charsmap") {
		t.Errorf("%v", err)
	}
	if err := export.Check(dir, nil); err != nil {
		t.Errorf("without GGUF: %v", err)
	}
}
