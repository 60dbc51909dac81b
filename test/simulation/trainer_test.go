package simulation

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/nodeagent/launcher"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// How a simulated stage ends.
const (
	endsWell    = "well"
	endsFailing = "failing" // with an error that is worth another try
	endsRefused = "refused" // with one that is not
	endsCrashed = "crashed" // without a result
	endsStopped = "stopped" // it was told to
)

// command is a stage's command: how many lines it prints, how long it pauses
// between two, how it ends, whether it is deaf to SIGTERM and leaves no artifact.
func (s plannedStage) command() []string {
	return []string{"simulate", strconv.Itoa(s.lines), s.pause.String(), s.ending, strconv.FormatBool(s.deaf), strconv.FormatBool(s.bare)}
}

// run is the process of a stage: it prints numbered lines, leaves an artifact and
// writes its result, which names the fence that made it.
func (t *trainer) run(spec launcher.Spec, random *rand.Rand) {
	lines, _ := strconv.Atoi(spec.Argv[1])
	pause, _ := time.ParseDuration(spec.Argv[2])
	ending, deaf := spec.Argv[3], spec.Argv[4] == "true"
	var kill <-chan time.Time
	// rest pauses; it says how the process ends meanwhile, nil if it does not.
	rest := func(d time.Duration) *launcher.Exit {
		timer := time.NewTimer(d)
		defer timer.Stop()
		for {
			select {
			case <-timer.C:
				return nil
			case <-t.done: // the machine went down
				return &launcher.Exit{Gone: true}
			case <-kill:
				return &launcher.Exit{Signal: "killed", Stopped: true}
			case grace := <-t.signal:
				if grace <= 0 {
					return &launcher.Exit{Signal: "killed", Stopped: true}
				}
				kill = time.After(grace)
				if !deaf {
					timer.Reset(time.Duration(random.Int64N(int64(grace))))
					deaf = true // it comes to its end now
					ending = endsStopped
				}
			}
		}
	}
	for i := 1; i <= lines; i++ {
		text := fmt.Sprintf("{\"level\":\"INFO\",\"agent\":\"Simulated\",\"message\":\"line %d of %d\"}\n", i, lines)
		cut := random.IntN(len(text) + 1)
		if err := t.machine.write(spec.Output, os.O_APPEND, []byte(text[:cut])); err != nil {
			t.end(launcher.Exit{Code: 74})
			return
		}
		if exit := rest(time.Duration(random.Int64N(int64(pause) + 1))); exit != nil {
			t.end(*exit)
			return
		}
		if ending == endsStopped {
			break
		}
		if err := t.machine.write(spec.Output, os.O_APPEND, []byte(text[cut:])); err != nil {
			t.end(launcher.Exit{Code: 74})
			return
		}
		if exit := rest(time.Duration(random.Int64N(int64(pause) + 1))); exit != nil {
			t.end(*exit)
			return
		}
	}
	t.end(t.finish(spec, ending, lines))
}

// finish writes what the stage made.
func (t *trainer) finish(spec launcher.Spec, ending string, lines int) launcher.Exit {
	root := filepath.Dir(spec.Output)
	result := contract.Result{Status: contract.StatusSuccess, Output: map[string]any{"fence": t.fence, "lines": lines}, Metrics: map[string]float64{}}
	switch ending {
	case endsCrashed:
		return launcher.Exit{Code: 3}
	case endsStopped:
		result = contract.Result{Status: contract.StatusError, Error: &contract.Error{Class: contract.ClassInterrupted, Code: "INTERRUPTED", Message: "told to stop"}}
	case endsFailing:
		result = contract.Result{Status: contract.StatusError, Error: &contract.Error{Class: contract.ClassTransient, Code: "PLANNED", Message: "as planned"}}
	case endsRefused:
		result = contract.Result{Status: contract.StatusError, Error: &contract.Error{Class: contract.ClassBadInput, Code: "PLANNED", Message: "as planned"}}
	case endsWell:
		if spec.Argv[5] == "true" {
			break
		}
		note := fmt.Appendf(nil, "made under the fence %d\n", t.fence)
		if err := t.machine.write(filepath.Join(root, "out", "note.txt"), os.O_CREATE|os.O_TRUNC, note); err != nil {
			return launcher.Exit{Code: 74}
		}
		result.Artifacts = map[string]contract.Artifact{"note": {Path: "note.txt"}}
	}
	data, err := json.Marshal(result)
	if err == nil {
		err = t.machine.write(filepath.Join(root, "result.json"), os.O_CREATE|os.O_TRUNC, data)
	}
	if err != nil {
		return launcher.Exit{Code: 74}
	}
	if result.Error != nil {
		return launcher.Exit{Code: 1}
	}
	return launcher.Exit{}
}

// madeBy reads from an output which fence made it.
func madeBy(s api.Stage) (fence uint64, lines int) {
	var out struct {
		Fence uint64 `json:"fence"`
		Lines int    `json:"lines"`
	}
	if json.Unmarshal(s.Output, &out) != nil {
		return 0, 0
	}
	return out.Fence, out.Lines
}
