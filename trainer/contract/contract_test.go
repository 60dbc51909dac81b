package contract_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

func TestTheDefaultConfigIsValid(t *testing.T) {
	if faults := (contract.Config{}).WithDefaults().Validate(); len(faults) > 0 {
		t.Errorf("defaults are refused: %v", faults)
	}
}

func TestAConfigFaultNamesItsField(t *testing.T) {
	tests := []struct{ config, field, words string }{
		{`{"training":{"rank":5000}}`, "training.rank", "1 to 1024"},
		{`{"training":{"rank":"high"}}`, "training.rank", "string"},
		{`{"training":{"ranks":8}}`, "training.ranks", "not a field"},
		{`{"training":{"learning_rate":7}}`, "training.learning_rate", "is 7"},
		{`{"training":{"target_modules":["q_proj","nose"]}}`, "training.target_modules[1]", "nose"},
		{`{"task":"cooking"}`, "task", "cooking"},
		{`{"preprocessing":{"test_fraction":0.6,"validation_fraction":0.5}}`, "preprocessing.test_fraction", "leave"},
		{`{"export":{"gguf":["q3"]}}`, "export.gguf[0]", "q3"},
	}
	for _, tt := range tests {
		c, err := contract.ParseConfig([]byte(tt.config), true)
		var faults []contract.FieldError
		var parse contract.FieldError
		switch {
		case errors.As(err, &parse):
			faults = append(faults, parse)
		case err != nil:
			t.Errorf("%s: %v", tt.config, err)
			continue
		default:
			faults = c.WithDefaults().Validate()
		}
		if len(faults) != 1 || faults[0].Field != tt.field || !strings.Contains(faults[0].Message, tt.words) {
			t.Errorf("%s: got %v, want %s ... %s", tt.config, faults, tt.field, tt.words)
		}
	}
}

func TestALenientConfigLeavesForeignKeysToOtherStages(t *testing.T) {
	if _, err := contract.ParseConfig([]byte(`{"my_stage":{"x":1},"task":"qa"}`), false); err != nil {
		t.Error(err)
	}
}

func TestAResultMayNotReachOutOfItsFolder(t *testing.T) {
	for _, doc := range []string{
		`{"status":"success","artifacts":{"a":"../secret"}}`,
		`{"status":"success","artifacts":{"a":"/etc/passwd"}}`,
		`{"status":"success","artifacts":{"../a":"file"}}`,
		`{"status":"success","artifacts":{"a":{"path":"x","place":"moon"}}}`,
		`{"status":"done"}`,
		`[]`,
	} {
		if _, err := contract.ParseResult([]byte(doc)); err == nil {
			t.Errorf("accepted %s", doc)
		}
	}
	r, err := contract.ParseResult([]byte(`{"status":"success","artifacts":{"report":"out/report.txt"},"output":{"n":1}}`))
	if err != nil || r.Artifacts["report"].Path != "out/report.txt" {
		t.Errorf("%v %v", r, err)
	}
}

// process prepares the environment of a stage process and returns the path of
// its result.
func process(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	input, err := json.Marshal(contract.Input{Contract: contract.Version, RunID: "j", Stage: "s", OutputDir: dir, InputDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "input.json"), input, 0o600); err != nil {
		t.Fatal(err)
	}
	result := filepath.Join(dir, "result.json")
	t.Setenv(contract.EnvInput, filepath.Join(dir, "input.json"))
	t.Setenv(contract.EnvResult, result)
	return result
}

func TestEveryEndOfAStageBecomesAResult(t *testing.T) {
	tests := []struct {
		name  string
		stage contract.Stage
		code  int
		class contract.Class
		error string
	}{
		{"success", func(context.Context, contract.Input, *contract.Emitter) (contract.Result, error) {
			return contract.Result{Output: map[string]any{"rows": 3}}, nil
		}, 0, "", ""},
		{"typed error", func(context.Context, contract.Input, *contract.Emitter) (contract.Result, error) {
			return contract.Result{}, &contract.Error{Class: contract.ClassBadInput, Code: "RAGGED_ROW", Message: "5 cells, want 4", Row: 7}
		}, 1, contract.ClassBadInput, "RAGGED_ROW"},
		{"typed error with a report", func(context.Context, contract.Input, *contract.Emitter) (contract.Result, error) {
			return contract.Result{Artifacts: map[string]contract.Artifact{"report": {Path: "r.json"}}}, &contract.Error{Class: contract.ClassBadInput, Code: "ONE_CLASS"}
		}, 1, contract.ClassBadInput, "ONE_CLASS"},
		{"plain error", func(context.Context, contract.Input, *contract.Emitter) (contract.Result, error) {
			return contract.Result{}, errors.New("disk on fire")
		}, 1, contract.ClassInternal, "INTERNAL"},
		{"panic", func(context.Context, contract.Input, *contract.Emitter) (contract.Result, error) {
			panic("index out of range")
		}, 1, contract.ClassInternal, "PANIC"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := process(t)
			var out bytes.Buffer
			if code := contract.Run(t.Context(), tt.stage, "TestAgent", &out); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			r, err := contract.ReadResult(path)
			if err != nil {
				t.Fatal(err)
			}
			if tt.code == 0 {
				if r.Status != contract.StatusSuccess || r.Output["rows"] != 3.0 {
					t.Errorf("%+v", r)
				}
				return
			}
			if r.Error.Class != tt.class || r.Error.Code != tt.error {
				t.Errorf("%+v", r.Error)
			}
			if left := r.Artifacts["report"].Path; (left == "r.json") != (tt.error == "ONE_CLASS") {
				t.Errorf("the result names %+v", r.Artifacts)
			}
			if !strings.Contains(out.String(), `"level":"ERROR"`) || !strings.Contains(out.String(), tt.error) {
				t.Errorf("no error event: %s", out.String())
			}
		})
	}
}

func TestAStageToldToStopIsInterruptedAndRetryable(t *testing.T) {
	path := process(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code := contract.Run(ctx, func(ctx context.Context, _ contract.Input, _ *contract.Emitter) (contract.Result, error) {
		return contract.Result{}, ctx.Err()
	}, "TestAgent", &bytes.Buffer{})
	r, err := contract.ReadResult(path)
	if err != nil || code != 1 || r.Error.Class != contract.ClassInterrupted || !r.Error.Class.Retryable() {
		t.Errorf("code %d, %+v, %v", code, r.Error, err)
	}
}

func TestAnEventIsOneLineEvenWithANaN(t *testing.T) {
	var out bytes.Buffer
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	emit := contract.NewEmitter(&out, "TrainingAgent", func() time.Time { return at })
	loss, nan := 1.42, math.NaN()
	emit.Emit(contract.Event{Level: contract.LevelMetric, Loss: &loss})
	emit.Emit(contract.Event{Level: contract.LevelMetric, Loss: &nan})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if want := `{"timestamp":"2026-01-02T03:04:05Z","level":"METRIC","agent":"TrainingAgent","loss":1.42}`; lines[0] != want {
		t.Errorf("got  %s\nwant %s", lines[0], want)
	}
	if len(lines) != 2 || !strings.Contains(lines[1], "UNENCODABLE_EVENT") {
		t.Errorf("a NaN is lost: %q", lines)
	}
}

func TestInputsAreFoundByStageOrByName(t *testing.T) {
	in := contract.Input{Stage: "eval", InputDir: "/in", Inputs: []contract.File{
		{Stage: "source", Name: "ds.csv", Path: "/in/source/ds.csv"},
		{Stage: "train_a", Name: "adapter/x", Path: "/in/train_a/adapter/x"},
		{Stage: "prep", Name: "test.jsonl"}, {Stage: "prep2", Name: "test.jsonl"},
	}, PreviousOutput: map[string]json.RawMessage{"prep": json.RawMessage(`{"preprocessing":{"train":3}}`)}}
	if dir, err := in.DirName("adapter"); err != nil || dir != "/in/train_a/adapter" {
		t.Errorf("%s %v", dir, err)
	}
	if _, err := in.FindName("test.jsonl"); err == nil || !strings.Contains(err.Error(), "prep2") {
		t.Errorf("two artifacts of one name: %v", err)
	}
	if f, err := in.Source(); err != nil || f.Name != "ds.csv" {
		t.Errorf("%v %v", f, err)
	}
	var out struct{ Train int }
	if err := in.Previous("preprocessing", &out); err != nil || out.Train != 3 {
		t.Errorf("%v %v", out, err)
	}
	if err := in.Previous("nothing", &out); err == nil {
		t.Error("found what is not there")
	}
}

func FuzzParseInput(f *testing.F) {
	f.Add([]byte(`{"contract":1,"run_id":"j","stage":"s","output_dir":"/o","previous_output":{"a":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if in, err := contract.ParseInput(data); err == nil && in.RunID == "" {
			t.Error("accepted without run_id")
		}
	})
}

func FuzzParseResult(f *testing.F) {
	f.Add([]byte(`{"status":"success","artifacts":{"a":"b"}}`))
	f.Add([]byte(`{"status":"error","error":{"class":"x"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := contract.ParseResult(data)
		if err != nil {
			return
		}
		for name, a := range r.Artifacts {
			if !filepath.IsLocal(name) || !filepath.IsLocal(a.Path) {
				t.Errorf("artifact %q leaves its folder: %q", name, a.Path)
			}
		}
	})
}
