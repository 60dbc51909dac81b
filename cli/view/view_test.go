package view_test

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
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/view"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func p[T any](v T) *T { return &v }

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", path, got, want)
	}
}

// job is the default pipeline in the middle of training.
func job() api.JobDetail {
	pipeline := api.DefaultPipeline().Normalize()
	j := api.JobDetail{Job: api.Job{JobSpec: api.JobSpec{ID: "01JDCK3V5W8M2N4P6Q7R8S9T0V", Name: "support tickets"}, State: api.JobRunning, StartedAt: p(noon.Add(-90 * time.Second)), Index: 7}}
	states := []api.StageState{api.StageSucceeded, api.StageSkipped, api.StageSucceeded, api.StageRunning, api.StagePending, api.StagePending}
	for i, n := range pipeline.Nodes {
		s := api.Stage{StageSpec: n, After: pipeline.After(n.Name), State: states[i]}
		if states[i] == api.StageSucceeded {
			s.StartedAt, s.FinishedAt = p(noon.Add(-90*time.Second)), p(noon.Add(-80*time.Second))
		}
		if states[i] == api.StageRunning {
			s.StartedAt, s.Node, s.Attempt = p(noon.Add(-70*time.Second)), "n-5f0c2b9a7e31", 1
		}
		j.Stages = append(j.Stages, s)
	}
	return j
}

func metric(seq uint64, step int64, loss float64) api.Event {
	return api.Event{Seq: seq, Timestamp: noon.Add(-3 * time.Second), Level: api.LevelMetric, Stage: "training", Attempt: 1, Step: &step, Loss: &loss, SamplesPerSec: p(311.42),
		Progress: &api.Progress{Done: step, Total: 240, Unit: "steps", ETASeconds: 61}}
}

// training is the state of job with half of its losses.
func training() *view.State {
	s := &view.State{}
	s.SetJob(job())
	s.Apply(api.Event{Seq: 1, Stage: "preprocessing", Attempt: 1, Progress: &api.Progress{Done: 1140, Total: 1140, Unit: "rows"}})
	for i := int64(1); i <= 12; i++ {
		s.Apply(metric(uint64(i+1), i*10, 3/float64(i)))
	}
	s.Apply(api.Event{Seq: 14, Timestamp: noon.Add(-2 * time.Second), Level: api.LevelInfo, Stage: "training", Message: "epoch 1 is done", Checkpoint: "epoch_1"})
	return s
}

func frame(width int) view.Frame {
	return view.Frame{Width: width, Now: noon, Hint: "Ctrl-C leaves it running; again: tunemesh job watch 01JDCK3V5W8M2N4P6Q7R8S9T0V"}
}

func draw(s *view.State, f view.Frame) string { return strings.Join(s.Lines(f), "\n") + "\n" }

func TestLiveView(t *testing.T) {
	retry := training()
	j := job()
	j.Stages[3].State, j.Stages[3].Tries, j.Stages[3].MaxAttempts, j.Stages[3].NotBefore, j.Stages[3].StartedAt = api.StageReady, 1, 3, p(noon.Add(4*time.Second)), nil
	retry.SetJob(j)
	waiting := training()
	j = job()
	j.Stages[3].State, j.Stages[3].StartedAt, j.Stages[3].WaitReason = api.StageReady, nil, "no node has a GPU with 8 GiB free; nearest: n1, CPU only"
	waiting.SetJob(j)
	failed := training()
	j = job()
	j.State, j.FinishedAt = api.JobFailed, p(noon)
	j.Stages[3].State, j.Stages[3].FinishedAt, j.Stages[3].Error = api.StageFailed, p(noon), &api.StageError{Code: "LOSS_IS_NAN", Message: "the loss is not a number", Field: "training.learning_rate"}
	j.Stages[4].State, j.Stages[5].State = api.StageCancelled, api.StageCancelled
	failed.SetJob(j)
	away := training()
	away.Trouble = "no server answers at http://127.0.0.1:7700; trying again, the job goes on"
	fresh := &view.State{}
	fresh.SetJob(job())
	for name, s := range map[string]*view.State{"training": training(), "retry": retry, "waiting": waiting, "failed": failed, "away": away, "fresh": fresh} {
		golden(t, "live-"+name+".golden", draw(s, frame(100)))
	}
	golden(t, "live-narrow.golden", draw(training(), frame(60)))
	f := frame(100)
	f.Style.On = true
	golden(t, "live-colour.golden", draw(training(), f))
}

func TestColoursChangeNothingButColours(t *testing.T) {
	f := frame(100)
	f.Style.On = true
	for i, line := range training().Lines(f) {
		if plain := training().Lines(frame(100))[i]; format.Width(line) != format.Width(plain) {
			t.Errorf("line %d is %d cells wide with colours, %d without", i, format.Width(line), format.Width(plain))
		}
	}
}

func TestNoLineIsWiderThanTheScreen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &view.State{}
		j := job()
		j.Name = rapid.String().Draw(t, "name")
		for i := range j.Stages {
			st := &j.Stages[i]
			st.State = rapid.SampledFrom([]api.StageState{api.StagePending, api.StageReady, api.StageRunning, api.StageSucceeded, api.StageFailed, api.StageCancelled, api.StageSkipped}).Draw(t, "state")
			st.WaitReason, st.Node = rapid.String().Draw(t, "reason"), rapid.String().Draw(t, "node")
			st.Error = &api.StageError{Code: "X", Message: rapid.String().Draw(t, "error")}
			s.Apply(api.Event{Stage: st.Name, Message: rapid.String().Draw(t, "message"), Loss: p(rapid.Float64().Draw(t, "loss")), SamplesPerSec: p(rapid.Float64().Draw(t, "rate")),
				Progress: &api.Progress{Done: rapid.Int64().Draw(t, "done"), Total: rapid.Int64().Draw(t, "total"), Unit: rapid.String().Draw(t, "unit"), ETASeconds: rapid.Float64().Draw(t, "eta")}})
		}
		s.SetJob(j)
		f := frame(rapid.IntRange(0, 200).Draw(t, "width"))
		f.Height = rapid.IntRange(0, 50).Draw(t, "height")
		f.Style.On = rapid.Bool().Draw(t, "colour")
		lines := s.Lines(f)
		for _, line := range lines {
			if w := format.Width(line); w > max(f.Width, 20) {
				t.Fatalf("%d cells in a screen of %d: %q", w, f.Width, line)
			}
			if strings.ContainsAny(line, "\n\r\t") {
				t.Fatalf("line break in a line: %q", line)
			}
		}
		if f.Height >= 10 && len(lines) > f.Height {
			t.Fatalf("%d lines in a screen of %d", len(lines), f.Height)
		}
	})
}

func TestManyStagesShowThoseThatRun(t *testing.T) {
	j := job()
	j.Stages = nil
	for i := range 60 {
		state := api.StageSucceeded
		if i == 30 {
			state = api.StageRunning
		} else if i > 30 {
			state = api.StagePending
		}
		j.Stages = append(j.Stages, api.Stage{StageSpec: api.StageSpec{Name: fmt.Sprintf("part-%02d", i)}, State: state})
	}
	s := &view.State{}
	s.SetJob(j)
	f := frame(80)
	f.Height = 20
	text := draw(s, f)
	if n := strings.Count(text, "\n"); n > 20 || !strings.Contains(text, "part-30") || !strings.Contains(text, "above") || !strings.Contains(text, "below") {
		t.Errorf("%d lines:\n%s", n, text)
	}
}

func TestAReplayChangesNothing(t *testing.T) {
	s := training()
	want := draw(s, frame(100))
	for i := int64(1); i <= 12; i++ {
		s.Apply(metric(uint64(i+1), i*10, 99))
	}
	if got := draw(s, frame(100)); got != want {
		t.Errorf("after a replay:\n%s\nbefore:\n%s", got, want)
	}
	if s.LastSeq != 14 {
		t.Errorf("the stream would go on after %d, want 14", s.LastSeq)
	}
}

func TestAnAttemptFromACheckpointReplacesTheCurve(t *testing.T) {
	s := training()
	again := metric(20, 110, 0.5)
	again.Attempt = 2
	s.Apply(again)
	losses := s.Losses()
	if len(losses) != 11 || losses[10] != 0.5 {
		t.Errorf("curve is %v, want ten points of the first attempt and one of the second", losses)
	}
}

func TestALongCurveStaysSmall(t *testing.T) {
	s := &view.State{}
	const n = 300_000
	for i := range uint64(n) {
		s.Apply(metric(i+1, int64(i), float64(n-i)))
	}
	losses := s.Losses()
	if len(losses) > 4097 || len(losses) < 1000 || losses[0] != n || losses[len(losses)-1] != 1 || view.Sparkline(losses, 8) != "█▇▆▅▄▃▂▁" {
		t.Errorf("%d points from %v to %v: %s", len(losses), losses[0], losses[len(losses)-1], view.Sparkline(losses, 8))
	}
}

func TestAnOlderDocumentIsIgnored(t *testing.T) {
	s := training()
	old := job()
	old.Index, old.State = 3, api.JobPending
	s.SetJob(old)
	if s.Job.State != api.JobRunning {
		t.Error("an older document replaced a newer one")
	}
}

func TestPlainLinesComeAtASensibleRate(t *testing.T) {
	plain := view.Plain{Every: 5 * time.Second, Width: 100, Where: time.UTC}
	var got []string
	for i := range 100 {
		e := metric(uint64(i+1), int64(i), 1)
		e.Timestamp = noon.Add(time.Duration(i) * time.Second / 10)
		got = append(got, plain.Event(e)...)
	}
	if len(got) != 2 {
		t.Errorf("ten seconds of numbers made %d lines, want 2", len(got))
	}
	got = plain.Event(api.Event{Level: api.LevelState, Stage: "training", From: "running", To: "succeeded", Timestamp: noon.Add(11 * time.Second)})
	if len(got) != 2 || !strings.Contains(got[0], "99/240 steps") || !strings.Contains(got[1], "succeeded") {
		t.Errorf("the end of a stage made %q, want its last numbers and its state", got)
	}
	if got = plain.Event(api.Event{Level: api.LevelInfo, Message: "chatter"}); got != nil {
		t.Errorf("an INFO event made %q", got)
	}
}

func TestPlainLinesAreWrapped(t *testing.T) {
	plain := view.Plain{Width: 60, Where: time.UTC}
	got := plain.Event(api.Event{Timestamp: noon, Level: api.LevelWarn, Stage: "validation", ErrorCode: "DUPLICATE_ROWS", Message: "62 rows repeat an earlier one; the first is kept", Fields: json.RawMessage(`{"count":62}`)})
	want := []string{
		"12:00:00  WARN    validation     DUPLICATE_ROWS: 62 rows",
		"                                 repeat an earlier one; the",
		"                                 first is kept",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestAReasonForWaitingIsSaidOnce(t *testing.T) {
	plain := view.Plain{Width: 100, Where: time.UTC}
	j := job()
	j.Stages[3].State, j.Stages[3].WaitReason = api.StageReady, "no node is alive"
	if got := plain.Waits(j, noon); len(got) != 1 || !strings.Contains(got[0], "no node is alive") {
		t.Errorf("got %q", got)
	}
	if got := plain.Waits(j, noon); len(got) != 0 {
		t.Errorf("the same reason again: %q", got)
	}
	j.Stages[3].WaitReason = "another one"
	if got := plain.Waits(j, noon); len(got) != 1 {
		t.Errorf("a new reason: %q", got)
	}
}

func TestLogLineOfAnyEvent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fields, _ := json.Marshal(map[string]string{"k": rapid.String().Draw(t, "field")})
		line := view.LogLine(api.Event{Level: rapid.String().Draw(t, "level"), Stage: rapid.String().Draw(t, "stage"), Message: rapid.String().Draw(t, "message"), Node: rapid.String().Draw(t, "node"), To: rapid.String().Draw(t, "to"), ErrorCode: rapid.String().Draw(t, "code"), Fields: fields}, format.Style{}, time.UTC)
		for _, r := range line {
			if r < ' ' || r == 0x7f {
				t.Fatalf("control character in %q", line)
			}
		}
	})
}

func TestSparkline(t *testing.T) {
	for _, c := range []struct {
		values []float64
		width  int
		want   string
	}{
		{nil, 5, ""}, {[]float64{1}, 5, "▁"}, {[]float64{2, 2, 2}, 5, "▁▁▁"},
		{[]float64{0, 1, 2, 3, 4, 5, 6, 7}, 8, "▁▂▃▄▅▆▇█"}, {[]float64{7, 7, 0, 0}, 2, "█▁"}, {[]float64{1, 2}, 0, ""},
	} {
		if got := view.Sparkline(c.values, c.width); got != c.want {
			t.Errorf("Sparkline(%v, %d) = %q, want %q", c.values, c.width, got, c.want)
		}
	}
}

func TestTransferLine(t *testing.T) {
	for _, c := range []struct {
		t    view.Transfer
		want string
	}{
		{view.Transfer{Name: "tickets.csv", Done: 0, Total: 10_000_000}, "tickets.csv  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░  0 B of 10 MB"},
		{view.Transfer{Name: "tickets.csv", Done: 5_000_000, Total: 10_000_000, Elapsed: 2 * time.Second}, "tickets.csv  ███████████████░░░░░░░░░░░░░░░  5.0 MB of 10 MB  2.5 MB/s  ETA 2.0s"},
		{view.Transfer{Name: "stdin", Done: 5_000_000, Total: -1, Elapsed: 2 * time.Second}, "stdin  5.0 MB  2.5 MB/s  2.0s"},
	} {
		if got := c.t.Line(99, format.Style{}); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}
