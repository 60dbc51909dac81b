package training_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/training"
)

// stopped is a training that ended at a step, ready to go on.
func stopped(t *testing.T, config string, step int64) contract.Input {
	t.Helper()
	in := job(t, config)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := training.Run(ctx, in, contract.NewEmitter(&stopAt{step, cancel}, "TestAgent", time.Now)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return in
}

// goOn ends it by a config that may be another one.
func goOn(t *testing.T, in contract.Input, config string) (training.Summary, stagetest.Log) {
	t.Helper()
	in.Config = []byte(config)
	result, log, err := stagetest.Run(t.Context(), t, training.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	return result.Output[training.OutputKey].(training.Summary), log
}

// A config that computes products in another way than the checkpoint's steps were
// is no other training: it goes on, and says that it is no longer that of one way.
// One that leaves it open goes on as it began.
func TestATrainingGoesOnThoughItsComputeHasChanged(t *testing.T) {
	compute := func(way string) string { return fmt.Sprintf(config, `"compute":"`+way+`",`) }
	calm := job(t, compute("bf16"))
	if _, _, err := stagetest.Run(t.Context(), t, training.Run, calm); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, compute string }{
		{"f32", "bf16", "bf16"},
		{"bf16", "f32", "f32"},
		{"bf16", "auto", "bf16"},
		{"auto", "f32", "f32"},
	} {
		t.Run(c.from+" to "+c.to, func(t *testing.T) {
			in := stopped(t, compute(c.from), 5)
			s, log := goOn(t, in, compute(c.to))
			if s.ResumedAt != 5 || s.Compute != c.compute {
				t.Errorf("went on at step %d in %s", s.ResumedAt, s.Compute)
			}
			if w, ok := log.Warning("CHECKPOINT_SKIPPED"); ok {
				t.Errorf("a checkpoint was passed over: %s", w.Message)
			}
			changed := c.from == "f32" && c.to == "bf16" || c.from == "bf16" && c.to == "f32"
			w, warned := log.Warning("BITS_CHANGE")
			if warned != changed || len(s.Bits) != 1+count(changed) {
				t.Errorf("warned %v of %v", warned, s.Bits)
			}
			if changed && (!strings.Contains(w.Message, "up to 5") || !strings.Contains(w.Message, "native in "+c.from) || !strings.Contains(w.Message, "native in "+c.to)) {
				t.Errorf("the warning says %q", w.Message)
			}
			if c.to == "auto" && !bytes.Equal(weightsOf(t, in), weightsOf(t, calm)) {
				t.Error("the weights differ from those of an undisturbed training in bf16")
			}
		})
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A checkpoint may come from a machine whose loops add up otherwise: the training
// goes on, and says where bit-identity ends, once and for all later attempts.
func TestACheckpointOfOtherLoopsIsContinuedAloud(t *testing.T) {
	in := stopped(t, fmt.Sprintf(config, ""), 7)
	const other = "native in f32 by the Go loops on riscv64"
	edit(t, filepath.Join(in.CheckpointDir, "step_7"), func(s *training.State) { s.Bits = []string{other} })
	s, log := goOn(t, in, fmt.Sprintf(config, ""))
	w, ok := log.Warning("BITS_CHANGE")
	if !ok || !strings.Contains(w.Message, other) || !strings.Contains(w.Message, "not bit for bit") {
		t.Errorf("warned %v: %q", ok, w.Message)
	}
	if s.ResumedAt != 7 || len(s.Bits) != 2 || s.Bits[0] != other {
		t.Errorf("went on at step %d; %q", s.ResumedAt, s.Bits)
	}
	again, log := goOn(t, in, fmt.Sprintf(config, ""))
	if _, ok := log.Warning("BITS_CHANGE"); ok || !slices.Equal(again.Bits, s.Bits) {
		t.Errorf("another attempt warned %v and says %q", ok, again.Bits)
	}
}

// edit changes the state in a checkpoint's folder, checksum and all.
func edit(t *testing.T, dir string, change func(*training.State)) {
	t.Helper()
	read := func(name string, into any) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || json.Unmarshal(data, into) != nil {
			t.Fatal(name, err)
		}
	}
	write := func(name string, value any) []byte {
		data, err := json.Marshal(value)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var state training.State
	read("state.json", &state)
	change(&state)
	data := write("state.json", state)
	sums := map[string]map[string]any{}
	read("checksums.json", &sums)
	hash := sha256.Sum256(data)
	sums["state.json"] = map[string]any{"size": len(data), "sha256": hex.EncodeToString(hash[:])}
	write("checksums.json", sums)
}

// Where another setting has changed it is another training, which begins anew and
// says which setting it was.
func TestACheckpointOfAnotherConfigIsPassedOverWithTheSettingThatDiffers(t *testing.T) {
	in := stopped(t, fmt.Sprintf(config, ""), 7)
	s, log := goOn(t, in, strings.Replace(fmt.Sprintf(config, `"packing_tokens":64,`), `"rank":4`, `"rank":8`, 1))
	w, ok := log.Warning("CHECKPOINT_SKIPPED")
	if !ok || s.ResumedAt != 0 {
		t.Errorf("went on at step %d", s.ResumedAt)
	}
	if !strings.Contains(w.Message, "another config: training.alpha was 8 and is 16, training.packing_tokens was not set and is 64, training.rank was 4 and is 8") {
		t.Errorf("says %q", w.Message)
	}
}
