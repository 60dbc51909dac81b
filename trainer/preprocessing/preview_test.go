package preprocessing_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/preprocessing"
	"github.com/tunemesh/tunemesh/trainer/sample"
)

func previewOf(t *testing.T, name, data, config string) (*preprocessing.Preview, error) {
	t.Helper()
	dir := t.TempDir()
	for n, text := range map[string]string{name: data, "tokenizer.json": string(tokenizerJSON()), "config.json": `{"max_position_embeddings":512}`, "tokenizer_config.json": `{"eos_token":"<|im_end|>"}`} {
		if err := os.WriteFile(filepath.Join(dir, n), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return preprocessing.MakePreview(context.Background(), preprocessing.PreviewOptions{File: filepath.Join(dir, name), ModelDir: dir, Config: json.RawMessage(config), Samples: 3})
}

// The preview shows what the stage writes: the same tokens, the same loss, the same counts.
func TestThePreviewIsWhatTheStageWrites(t *testing.T) {
	data := lamps(40) + strings.Repeat("very long ", 400) + ",a\n"
	p, err := previewOf(t, "x.csv", data, `{}`)
	if err != nil {
		t.Fatal(err)
	}
	sum, out, _ := run(t, prepare(t, "x.csv", []byte(data), `{}`))
	if p.Samples != sum.Train+sum.Validation+sum.Test || p.Tokens != sum.TotalTokens || p.LossTokens != sum.LossTokens || p.CutOff != 1 || len(p.Faults) != 0 ||
		p.Template != sum.Template || p.TokenLimit != 512 || p.Task != "classification" || p.LabelColumn != sum.LabelColumn {
		t.Errorf("%+v\n%+v", p, sum)
	}
	if len(p.Longest) != 1 || p.Longest[0].Row != 42 || len(p.Warnings) == 0 {
		t.Errorf("%+v, %q", p.Longest, p.Warnings)
	}
	if len(p.Shown) != 3 {
		t.Fatalf("%d shown", len(p.Shown))
	}
	written := map[int64]sample.Sample{}
	for _, samples := range out {
		for _, s := range samples {
			written[s.Row] = s
		}
	}
	for _, s := range p.Shown {
		w, text, learned := written[s.Row], "", ""
		for _, piece := range s.Pieces {
			text += piece.Text
			if piece.Loss {
				learned += piece.Text
			}
		}
		if s.Tokens != len(w.Tokens) || s.LossTokens != w.LossTokens() || text != parseTokenizer(t).Decode(w.Tokens, false) || learned != w.Target+"<|im_end|>" || s.Split == "" {
			t.Errorf("row %d: %+v, written %+v", s.Row, s, w)
		}
	}
}

func TestThePreviewSaysWhatAJobWouldBeRefusedFor(t *testing.T) {
	p, err := previewOf(t, "x.csv", lamps(40), `{"preprocessing":{"max_length":20}}`)
	if err != nil || p.CutOff != 40 || len(p.Faults) != 1 || p.Faults[0].Code != "EMPTY_SPLIT" || len(p.Shown) != 3 || !p.Shown[0].CutOff {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := previewOf(t, "x.csv", "text,label\n\"broken", `{}`); contract.AsError(err).Class != contract.ClassBadInput {
		t.Errorf("%v", err)
	}
	if _, err := previewOf(t, "x.csv", lamps(40), `{"text_column":"nope"}`); err == nil {
		t.Error("an unknown column was taken")
	}
}

// What validation would refuse ends a job as well, and its warnings are a job's warnings.
func TestThePreviewSaysWhatValidationWouldSay(t *testing.T) {
	data := strings.ReplaceAll(lamps(40), ",b\n", ",a\n") + "the lamp number 3 of the house,a\n"
	p, err := previewOf(t, "x.csv", data, `{}`)
	if err != nil || len(p.Faults) != 1 || len(p.Shown) != 3 {
		t.Fatalf("%+v, %v", p, err)
	}
	if f := p.Faults[0]; f.Stage != "validation" || f.Code != "ONE_CLASS" || f.Row != 2 || f.Column != "label" || !strings.Contains(f.Message, `"a"`) || f.Hint == "" {
		t.Errorf("%+v", f)
	}
	if !strings.Contains(strings.Join(p.Warnings, "; "), "repeat an earlier one") {
		t.Errorf("%q", p.Warnings)
	}
	// Both stages' reasons stand in the order of the stages.
	p, err = previewOf(t, "x.csv", data, `{"preprocessing":{"max_length":20}}`)
	if err != nil || len(p.Faults) != 2 || p.Faults[0].Stage != "validation" || p.Faults[1].Code != "EMPTY_SPLIT" {
		t.Errorf("%+v, %v", p, err)
	}
	// Without a row to show there is no preview, but the reason and what to do.
	_, err = previewOf(t, "x.csv", "text,label\nhello,\n,a\n", `{"text_column":"text","label_column":"label"}`)
	if f := contract.AsError(err); f.Code != "MISSING_VALUES" || f.Hint == "" || strings.Contains(f.Hint, "report") {
		t.Errorf("%+v", f)
	}
}
