package validation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/examples"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/validation"
)

// validate runs dataset and validation on data.
func validate(t *testing.T, file, data, config string) (validation.Report, stagetest.Log, error) {
	t.Helper()
	ctx := context.Background()
	in := stagetest.Input(t, "dataset", file, []byte(data), config)
	r, _, err := stagetest.Run(ctx, t, dataset.Run, in)
	if err != nil {
		t.Fatalf("dataset: %v", err)
	}
	in = stagetest.Next(t, in, r, "validation")
	_, log, err := stagetest.Run(ctx, t, validation.Run, in)
	var report validation.Report
	if written, readErr := os.ReadFile(filepath.Join(in.OutputDir, validation.ReportFile)); readErr == nil {
		if err := json.Unmarshal(written, &report); err != nil {
			t.Fatal(err)
		}
	}
	return report, log, err
}

// rows makes n rows of text and label, all different.
func rows(n int, labels ...string) string {
	var b strings.Builder
	b.WriteString("text,label\n")
	for i := range n {
		fmt.Fprintf(&b, "the lamp number %d of the house does not work,%s\n", i, labels[i%len(labels)])
	}
	return b.String()
}

func TestWarningsCountAndNameRows(t *testing.T) {
	data := rows(40, "billing", "login") +
		"the lamp number 0 of the house does not work,billing\n" + // row 42, as row 2
		"The LAMP  number 1 of the house does not work ,login\n" + // row 43, as row 3 after cleaning
		"the lamp number 2 of the house does not work,login\n" + // row 44, as row 4 with another label
		",billing\n" + // row 45
		"no label for this one,\n" + // row 46
		"write to anna@example.com or 212-555-0123 about it,Billing \n" + // row 47
		"ok,billing\n" // row 48
	report, log, err := validate(t, "x.csv", data, `{}`)
	if err != nil {
		t.Fatal(err)
	}
	if report.Rows != 47 || report.Usable != 42 || report.MissingInput != 1 || report.MissingTarget != 1 || report.ExactDuplicates != 2 || report.NormalizedDuplicates != 1 || report.ConflictingLabels != 1 || !report.Passed {
		t.Errorf("%+v", report)
	}
	if report.PII["email"] != 1 || report.PII["phone"] != 1 || report.PIIRows != 1 {
		t.Errorf("personal data: %v", report.PII)
	}
	for code, want := range map[string][]int64{
		validation.CodeDuplicates: {42, 43, 44}, validation.CodeConflicts: {44}, validation.CodeMissing: {45},
		validation.CodePII: {47}, validation.CodeShort: {48}, validation.CodeUntidy: {43, 47}, validation.CodeVariants: nil,
	} {
		i := slices.IndexFunc(report.Findings, func(f validation.Finding) bool { return f.Code == code })
		if i < 0 {
			t.Errorf("%s is not in the report", code)
		} else if f := report.Findings[i]; !slices.Equal(f.Rows, want) || f.Error || f.Message == "" {
			t.Errorf("%s: %+v, want rows %v", code, f, want)
		}
		if _, ok := log.Warning(code); !ok {
			t.Errorf("%s is not in the log", code)
		}
	}
	if e, _ := log.Warning(validation.CodeMissing); e.Message != "2.13% missing values in column 'text': 1 of 47 rows; the rows are left out" {
		t.Errorf("message %q", e.Message)
	}
}

func TestDataThatCannotBeLearntFromStopTheJob(t *testing.T) {
	for _, c := range []struct {
		name, data, config, code string
		row                      int64
		column, message          string
	}{
		{"one class", rows(30, "a"), `{}`, validation.CodeOneClass, 2, "label", `"a"`},
		{"one class in several spellings", rows(30, "a", "A", " a"), `{}`, validation.CodeOneClass, 2, "label", "same label"},
		{"too few rows", rows(9, "a", "b"), `{"min_rows":10}`, validation.CodeFewRows, 0, "text", "9 rows are usable"},
		{"too few without duplicates", rows(4, "a", "b") + strings.Repeat("the same text again and again,a\n", 20), `{"min_rows":10}`, validation.CodeFewRows, 0, "text", "5 rows are usable"},
		{"too many missing texts", rows(10, "a", "b") + strings.Repeat(",a\n", 5), `{}`, validation.CodeMissing, 12, "text", "33.3% missing values in column 'text'"},
		{"too many missing labels", rows(10, "a", "b") + strings.Repeat("some text of its own,NULL\n", 5), `{}`, validation.CodeMissing, 12, "label", "rows 12 13 14 15 16"},
		{"too many classes", rows(30, "a", "b", "c", "d"), `{"max_classes":3}`, validation.CodeManyClasses, 5, "label", "more than 3"},
		{"stricter limit", rows(50, "a", "b") + ",a\n", `{"max_missing_fraction":0.01}`, validation.CodeMissing, 52, "text", "0.01"},
		{"one row", "text,label\nthe one and only text there is in this file,a\n", `{"text_column":"text","label_column":"label"}`, validation.CodeOneClass, 2, "label", "same label"},
	} {
		t.Run(c.name, func(t *testing.T) {
			report, _, err := validate(t, "x.csv", c.data, `{"text_column":"text","label_column":"label","validation":`+c.config+`}`)
			f := contract.AsError(err)
			if err == nil || f.Class != contract.ClassBadInput || f.Code != c.code || f.Row != c.row || f.Column != c.column || f.File != "x.csv" || !strings.Contains(f.Message, c.message) {
				t.Errorf("got %+v", f)
			}
			if f.Hint == "" {
				t.Error("no hint")
			}
			if report.Passed {
				t.Error("the report says passed")
			}
		})
	}
}

// A handful of rows goes through, with a warning: it is enough to try the way.
func TestAHandfulOfRowsIsEnoughToTryTheWay(t *testing.T) {
	for _, n := range []int{2, 3, 9} {
		report, log, err := validate(t, "x.csv", rows(n, "a", "b"), `{"text_column":"text","label_column":"label"}`)
		if err != nil || !report.Passed {
			t.Errorf("%d rows: %v", n, err)
		}
		if _, warned := log.Warning(validation.CodeFewRows); !warned {
			t.Errorf("%d rows: nothing is said of how few they are", n)
		}
	}
}

func TestClassBalanceIsReported(t *testing.T) {
	data := rows(200, "big") + strings.TrimPrefix(rows(3, "tiny"), "text,label\n")
	data = strings.Replace(data, "house does not work,tiny", "garden does not work,tiny", 3)
	report, log, err := validate(t, "x.csv", data, `{}`)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Classes) != 2 || report.Classes[0].Label != "big" || report.Classes[1].Rows != 3 {
		t.Errorf("%+v", report.Classes)
	}
	for _, code := range []string{validation.CodeImbalance, validation.CodeRareClass} {
		if _, ok := log.Warning(code); !ok {
			t.Errorf("no warning %s", code)
		}
	}
}

func TestOtherTasksNeedNoClasses(t *testing.T) {
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintf(&b, `{"question":"What is lamp %d like, and why?","answer":"It is round and blue, like all others."}`+"\n", i)
	}
	b.WriteString(`{"question":"What is lamp 1 like, and why?","answer":"It is round and blue, like all others."}` + "\n")
	b.WriteString(`{"question":"What is lamp 1 like, and why?","answer":"Another answer to it."}` + "\n")
	report, _, err := validate(t, "x.jsonl", b.String(), `{"task":"qa"}`)
	if err != nil || report.Usable != 21 || report.ExactDuplicates != 1 || len(report.Classes) != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	chat := strings.Repeat(`{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]}`+"\n", 3) +
		`{"messages":[{"role":"user","content":"hi"},{"role":"tool","content":"x"}]}` + "\n"
	_, _, err = validate(t, "x.jsonl", chat, `{"task":"chat"}`)
	if f := contract.AsError(err); f.Code != "BAD_MESSAGES" || f.Row != 4 || f.Column != "messages" {
		t.Errorf("bad role: %v", err)
	}
}

// Texts that are learned whole stand in the target; there is no input to be short or missing.
func TestPlainTextsAreJudgedAsTheInputWouldBe(t *testing.T) {
	report, log, err := validate(t, "x.csv", rows(20, "")+"short,\n,\n", `{"task":"completion","text_column":"text"}`)
	if err != nil || report.Usable != 21 || report.MissingInput != 0 || report.MissingTarget != 1 || report.Length.Max < 40 {
		t.Errorf("%+v, %v", report, err)
	}
	if e, ok := log.Warning(validation.CodeShort); ok {
		t.Errorf("%q", e.Message)
	}
	_, _, err = validate(t, "x.csv", rows(2, ""), `{"task":"completion","text_column":"text","validation":{"min_rows":9}}`)
	if f := contract.AsError(err); f.Code != validation.CodeFewRows || f.Column != "text" || !strings.Contains(f.Message, `(with "text", duplicates`) {
		t.Errorf("%v", err)
	}
}

// Labels of any length leave messages that can be read, and an output within its bounds.
func TestLongLabelsDoNotFillTheMessages(t *testing.T) {
	labels := make([]string, 30)
	for i := range labels {
		labels[i] = fmt.Sprintf("%02d %s", i, strings.Repeat("long ", 1000))
	}
	data := rows(120, labels...)
	in := stagetest.Input(t, "dataset", "x.csv", []byte(data), `{"text_column":"text","label_column":"label"}`)
	r, _, err := stagetest.Run(context.Background(), t, dataset.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	in = stagetest.Next(t, in, r, "validation")
	r, log, err := stagetest.Run(context.Background(), t, validation.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	stagetest.Next(t, in, r, "preprocessing") // checks the size of the output
	e, ok := log.Warning(validation.CodeRareClass)
	if !ok || len(e.Message) > 4000 || !strings.Contains(e.Message, "00 long long") {
		t.Errorf("%d bytes: %.200q", len(e.Message), e.Message)
	}
}

func TestTheSupportTicketsPassWithTheirDirtNamed(t *testing.T) {
	report, log, err := validate(t, "support-tickets.csv", string(examples.SupportTickets), `{}`)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Classes) != 8 || report.MissingInput < 10 || report.MissingTarget < 10 || report.ExactDuplicates < 20 || report.NormalizedDuplicates < 10 || report.PII["email"] < 20 || report.PII["phone"] < 20 {
		t.Errorf("%+v", report)
	}
	for _, code := range []string{validation.CodeMissing, validation.CodeDuplicates, validation.CodeConflicts, validation.CodeVariants, validation.CodeUntidy, validation.CodePII} {
		if _, ok := log.Warning(code); !ok {
			t.Errorf("no warning %s", code)
		}
	}
}

func TestCancelledRunsEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	in := stagetest.Input(t, "dataset", "x.csv", examples.SupportTickets, `{}`)
	r, _, err := stagetest.Run(ctx, t, dataset.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, _, err := stagetest.Run(ctx, t, validation.Run, stagetest.Next(t, in, r, "validation")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
