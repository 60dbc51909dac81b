package training_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/training"
)

var mine = training.Fingerprint{Config: "c", Data: "d", Model: "m"}

func save(t *testing.T, s training.Store, name string, step int, fp training.Fingerprint) {
	t.Helper()
	err := s.Save(name, func(dir string) error {
		state, err := json.Marshal(training.State{Version: 2, Step: step, Fingerprint: fp})
		if err != nil {
			return err
		}
		return errors.Join(
			os.WriteFile(filepath.Join(dir, "state.json"), state, 0o644),
			os.WriteFile(filepath.Join(dir, "optimizer.safetensors"), []byte("moments"), 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func newest(t *testing.T, s training.Store) (name string, step int, skipped map[string]string) {
	t.Helper()
	skipped = map[string]string{}
	name, state, err := s.Newest(mine, func(name, reason string) { skipped[name] = reason })
	if err != nil {
		t.Fatal(err)
	}
	return name, state.Step, skipped
}

func TestNewestValidCheckpointIsChosen(t *testing.T) {
	s := training.Store{Dir: filepath.Join(t.TempDir(), "checkpoints")}
	if name, _, _ := newest(t, s); name != "" {
		t.Fatalf("found %q where nothing was saved", name)
	}
	save(t, s, "step_9", 9, mine)
	save(t, s, "epoch_1", 12, mine)
	save(t, s, "step_10", 10, mine)
	if name, step, _ := newest(t, s); name != "epoch_1" || step != 12 {
		t.Errorf("chose %s at step %d, want epoch_1 at 12", name, step)
	}
}

func TestDamagedAndForeignCheckpointsArePassedOverWithAReason(t *testing.T) {
	s := training.Store{Dir: t.TempDir()}
	save(t, s, "step_1", 1, mine)
	save(t, s, "step_2", 2, training.Fingerprint{Config: "other", Data: "d", Model: "m"})
	save(t, s, "step_3", 3, training.Fingerprint{Config: "c", Data: "other", Model: "m"})
	for _, name := range []string{"step_4", "step_5", "step_6", "step_7"} {
		save(t, s, name, 4, mine)
	}
	file := func(name, file string) string { return filepath.Join(s.Dir, name, file) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Truncate(file("step_4", "optimizer.safetensors"), 3))
	must(os.WriteFile(file("step_5", "optimizer.safetensors"), []byte("Moments"), 0o644))
	must(os.Remove(file("step_6", "state.json")))
	must(os.Remove(file("step_7", "checksums.json")))
	must(os.Mkdir(filepath.Join(s.Dir, ".tmp-step_8-1"), 0o755)) // a crash in mid-save

	name, _, skipped := newest(t, s)
	if name != "step_1" {
		t.Errorf("chose %q, want step_1", name)
	}
	for name, reason := range map[string]string{
		"step_2": "another config", "step_3": "other data", "step_4": "checksum",
		"step_5": "checksum", "step_6": "state.json", "step_7": "checksums are missing",
	} {
		if !strings.Contains(skipped[name], reason) {
			t.Errorf("%s: skipped because %q, want it to say %q", name, skipped[name], reason)
		}
	}
	if len(skipped) != 6 {
		t.Errorf("skipped %v", skipped)
	}
}

func TestASaveThatFailsLeavesNothingBehind(t *testing.T) {
	s := training.Store{Dir: t.TempDir()}
	full := errors.New("no space left on device")
	err := s.Save("step_1", func(dir string) error {
		_ = os.WriteFile(filepath.Join(dir, "state.json"), []byte("{"), 0o644)
		return full
	})
	if !errors.Is(err, full) {
		t.Fatalf("error %v, want %v", err, full)
	}
	if left, _ := os.ReadDir(s.Dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestPruneKeepsTwoStepsAndAllEpochs(t *testing.T) {
	s := training.Store{Dir: t.TempDir()}
	for _, n := range []string{"step_5", "step_10", "step_15", "step_100", "epoch_1", "epoch_2"} {
		save(t, s, n, 1, mine)
	}
	if err := os.Mkdir(filepath.Join(s.Dir, ".tmp-step_8-1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Prune(""); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, _ := os.ReadDir(s.Dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got, want := strings.Join(left, " "), "epoch_1 epoch_2 step_100 step_15"; got != want {
		t.Errorf("left %s, want %s", got, want)
	}
}
