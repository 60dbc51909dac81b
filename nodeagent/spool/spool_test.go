package spool_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/nodeagent/spool"
)

var source = spool.Source{RunID: "01JOB", Stage: "training", Attempt: 2, Fence: 41, Node: "n-1", Now: func() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }}

func event(text string) api.Event {
	return source.Event(spool.Line{Seq: 3, Text: []byte(text), Size: int64(len(text))})
}

// However the file grows and wherever readers start anew, the lines and their
// numbers are the same.
func TestLinesAreNumberedAlikeByAnyReader(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		lines := rapid.SliceOfN(rapid.StringMatching(`[a-z{}" ]{0,20}`), 0, 20).Draw(t, "lines")
		open := rapid.Bool().Draw(t, "last line without end") && len(lines) > 0 && lines[len(lines)-1] != ""
		content := strings.Join(lines, "\n")
		if len(lines) > 0 && !open {
			content += "\n"
		}
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := spool.Open(path, spool.Position{}, spool.Position{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		drain := func(ended bool) {
			for {
				line, ok, err := r.Next(ended)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					return
				}
				if line.Seq != uint64(len(got)+1) {
					t.Fatalf("line %d is numbered %d", len(got)+1, line.Seq)
				}
				got = append(got, string(line.Text))
			}
		}
		for rest := content; rest != ""; {
			k := rapid.IntRange(1, len(rest)).Draw(t, "written")
			if _, err := f.WriteString(rest[:k]); err != nil {
				t.Fatal(err)
			}
			rest = rest[k:]
			drain(false)
			if rapid.Bool().Draw(t, "reopen") {
				at := r.Position()
				r.Close()
				if r, err = spool.Open(path, at, spool.Position{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		drain(true)
		if fmt.Sprint(got) != fmt.Sprint(lines) || len(got) != len(lines) {
			t.Fatalf("got %q, want %q", got, lines)
		}
		if len(lines) > 0 {
			k := rapid.IntRange(1, len(lines)).Draw(t, "seek")
			if err := r.Seek(uint64(k)); err != nil {
				t.Fatal(err)
			}
			if line, ok, err := r.Next(true); err != nil || !ok || string(line.Text) != lines[k-1] || line.Seq != uint64(k) {
				t.Fatalf("after Seek(%d): %q %v %v", k, line.Text, ok, err)
			}
		}
		r.Close()
	})
}

func TestALongLineIsCutWithANoteAndTheNextOneIsWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 10<<20)+"\nshort\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := spool.Open(path, spool.Position{}, spool.Position{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	long, _, _ := r.Next(false)
	if len(long.Text) != spool.MaxLine {
		t.Errorf("%d bytes kept", len(long.Text))
	}
	if ev := source.Event(long); !strings.HasSuffix(ev.Message, "xx [cut: the line was 10485760 bytes long]") {
		t.Errorf("message ends %q", ev.Message[len(ev.Message)-60:])
	}
	if short, ok, _ := r.Next(false); !ok || string(short.Text) != "short" || short.Seq != 2 {
		t.Errorf("next line %+v", short)
	}
}

func TestAnEventOfTheContractKeepsEverything(t *testing.T) {
	ev := event(`{"timestamp":"2026-11-24T10:00:00+01:00","level":"METRIC","agent":"TrainingAgent","step":120,"epoch":1.5,"loss":0.25,"progress":{"done":120,"total":300,"unit":"steps"},"checkpoint":"step_120","run_id":"forged","fence":1,"fields":{"a":1},"gpu":"x"}`)
	if ev.RunID != "01JOB" || ev.Fence != 41 || ev.SourceSeq != 3 || ev.Stage != "training" || ev.Attempt != 2 || ev.Node != "n-1" {
		t.Errorf("identity: %+v", ev)
	}
	if ev.Level != "METRIC" || *ev.Step != 120 || *ev.Epoch != 1.5 || *ev.Loss != 0.25 || ev.Progress.Total != 300 || ev.Checkpoint != "step_120" {
		t.Errorf("values: %+v", ev)
	}
	if want := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC); ev.Timestamp != want {
		t.Errorf("timestamp %v, want %v", ev.Timestamp, want)
	}
	if string(ev.Fields) != `{"a":1,"gpu":"x"}` {
		t.Errorf("fields %s", ev.Fields)
	}
}

func TestOddLinesBecomeEventsToo(t *testing.T) {
	for text, want := range map[string]string{
		"hello":                         `INFO|hello|`,
		"":                              `INFO||`,
		"{not json":                     `INFO|{not json|`,
		"[1,2]":                         `INFO|[1,2]|`,
		"\xff\xfe":                      "INFO|\uFFFD|",
		`{"loss": NaN}`:                 `INFO|{"loss": NaN}|`,
		`{"level":"warning"}`:           `WARN||`,
		`{"level":"STATE","to":"x"}`:    `INFO||{"to":"x"}`,
		`{"step":"many","message":"m"}`: `INFO|m|{"step":"many"}`,
		`{"step":1.5}`:                  `INFO||{"step":1.5}`,
		`{"checkpoint":"../../etc"}`:    `INFO||{"checkpoint":"../../etc"}`,
		`{"fields":7}`:                  `INFO||{"fields":7}`,
		`{"message":{"a":1}}`:           `INFO||{"message":{"a":1}}`,
		`null`:                          `INFO|null|`,
	} {
		ev := event(text)
		if got := ev.Level + "|" + ev.Message + "|" + string(ev.Fields); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
		if ev.Step != nil || ev.Checkpoint != "" || ev.Timestamp.IsZero() {
			t.Errorf("%q: %+v", text, ev)
		}
	}
}

func FuzzEvent(f *testing.F) {
	f.Add([]byte(`{"timestamp":"0000-01-01T00:00:00+14:00","level":"METRIC","step":1}`), int64(0))
	f.Add([]byte(strings.Repeat("\x01", 64<<10)), int64(1<<30))
	f.Add([]byte(`{"fields":{"a":1e999}}`), int64(0))
	f.Fuzz(func(t *testing.T, text []byte, more int64) {
		if len(text) > spool.MaxLine {
			text = text[:spool.MaxLine]
		}
		ev := source.Event(spool.Line{Seq: 9, Text: text, Size: int64(len(text)) + max(more, 0)})
		data, err := json.Marshal(ev)
		if err != nil {
			t.Fatalf("the event of %q cannot be encoded: %v", text, err)
		}
		if len(data) > 140<<10 {
			t.Fatalf("the event is %d bytes", len(data))
		}
		if ev.SourceSeq != 9 || ev.Level == "" || ev.Level == api.LevelState {
			t.Fatalf("event %+v", ev)
		}
	})
}
