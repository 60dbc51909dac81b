package training

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/tunemesh/tunemesh/failpoint"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/training/history"
	"github.com/tunemesh/tunemesh/trainer/training/watch"
)

const (
	stateName     = "state.json"
	optimizerName = engine.OptimizerFile
	checksumsName = "checksums.json" // written last: sizes and hashes of all others

	stateVersion = 2
	keepSteps    = 2 // step_N folders that stay
)

// Fingerprint is what a checkpoint belongs to. One that differs in any part
// would continue another training.
type Fingerprint struct {
	Config string `json:"config_sha256"`
	Data   string `json:"data_sha256"`
	Model  string `json:"model_sha256"`
	// settings is the document behind Config, to say what differs.
	settings string
}

// State is what a checkpoint holds besides the weights and the optimiser's
// moments. The order of the data and the choices of dropout are functions of
// Seed and Step, so that no generator's state has to be kept.
type State struct {
	Version     int         `json:"version"`
	Fingerprint Fingerprint `json:"fingerprint"`
	// Settings is the document that the fingerprint's config is the hash of.
	Settings  json.RawMessage `json:"settings,omitempty"`
	Seed      uint64          `json:"seed"`
	Step      int             `json:"step"`  // updates done
	Epoch     float64         `json:"epoch"` // passes done: the position in the data
	Micro     uint64          `json:"micro"` // micro-batches done, which number dropout's choices
	Tokens    int64           `json:"tokens"`
	Samples   int64           `json:"samples"`
	OptimStep int64           `json:"optimizer_step"`
	// What was measured since the last line of the log.
	WindowLoss    float64     `json:"window_loss"`
	WindowTargets int64       `json:"window_targets"`
	FirstLoss     float64     `json:"first_loss"`
	Log           history.Log `json:"log"`

	// Settled is what was left open by the config and once decided stays: another
	// machine goes on with the micro-batches that this one began with.
	Settled Settled `json:"settled"`
	// Bits names what computed the steps up to here, one after the other: more than
	// one where a training went on by other means.
	Bits []string `json:"bits,omitempty"`
	// Best is the evaluation with the lowest loss, and where its weights are.
	Best *Best `json:"best,omitempty"`
	// Reference is the loss that the next evaluations have to beat, Worse how many
	// have not; Stopped says that this ended the training.
	Reference *float64 `json:"reference,omitempty"`
	Worse     int      `json:"worse,omitempty"`
	Stopped   bool     `json:"stopped,omitempty"`
	// Watch remembers the figures that the next ones are compared with.
	Watch watch.Watch `json:"watch"`
}

// Settled are the settings that trainer/plan chose.
type Settled struct {
	BatchSize     int     `json:"batch_size"`
	GradientAccum int     `json:"gradient_accumulation"`
	PackingTokens int     `json:"packing_tokens,omitempty"`
	BasePrecision string  `json:"base_precision"`
	LearningRate  float64 `json:"learning_rate"`
	Compute       string  `json:"compute,omitempty"` // f32 where a checkpoint says nothing
}

// Best is the evaluation with the lowest loss.
type Best struct {
	Step       int     `json:"step"`
	EvalLoss   float64 `json:"eval_loss"`
	Checkpoint string  `json:"checkpoint"`
}

// Store is the folder of a job's checkpoints: step_N and epoch_N.
type Store struct {
	Dir string
}

type fileSum struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Save writes a checkpoint: fill puts its files into a temporary folder, which
// gets its checksums, is synced and takes its name at once. A crash leaves
// either the whole checkpoint or a folder that Newest never looks at.
func (s Store) Save(name string, fill func(dir string) error) error {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return fmt.Errorf("training: checkpoint: %w", err)
	}
	tmp, err := os.MkdirTemp(s.Dir, ".tmp-"+name+"-")
	if err != nil {
		return fmt.Errorf("training: checkpoint: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := fill(tmp); err != nil {
		return fmt.Errorf("training: checkpoint %s: %w", name, err)
	}
	if err := seal(tmp); err != nil {
		return fmt.Errorf("training: checkpoint %s: %w", name, err)
	}
	final := filepath.Join(s.Dir, name)
	// A folder of this name is an earlier attempt's, which was not chosen.
	if err := os.RemoveAll(final); err != nil {
		return fmt.Errorf("training: checkpoint %s: %w", name, err)
	}
	if err := failpoint.At(failpoint.CheckpointUnnamed); err != nil {
		return fmt.Errorf("training: checkpoint %s: %w", name, err)
	}
	if err := os.Rename(tmp, final); err != nil {
		return fmt.Errorf("training: checkpoint %s: %w", name, err)
	}
	return syncPath(s.Dir)
}

// seal writes the checksums of all files of dir and syncs everything.
func seal(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	sums := map[string]fileSum{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if sums[e.Name()], err = sumFile(path); err != nil {
			return err
		}
		if err := syncPath(path); err != nil {
			return err
		}
		if err := failpoint.At(failpoint.CheckpointHalfSealed); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(sums, "", " ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, checksumsName)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	return errors.Join(syncPath(path), syncPath(dir))
}

// Verify says what is wrong with the files of a checkpoint, or nil.
func (s Store) Verify(name string) error {
	dir := filepath.Join(s.Dir, name)
	data, err := os.ReadFile(filepath.Join(dir, checksumsName))
	if err != nil {
		return fmt.Errorf("its checksums are missing: %w", err)
	}
	var sums map[string]fileSum
	if err := json.Unmarshal(data, &sums); err != nil {
		return fmt.Errorf("its checksums are damaged: %w", err)
	}
	for _, needed := range []string{stateName, optimizerName} {
		if _, ok := sums[needed]; !ok {
			return fmt.Errorf("it holds no %s", needed)
		}
	}
	for file, want := range sums {
		if !filepath.IsLocal(file) {
			return fmt.Errorf("its checksums name the path %q", file)
		}
		got, err := sumFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s does not have the size and checksum it was saved with", file)
		}
	}
	return nil
}

// Newest returns the folder and state of the valid checkpoint with the most
// steps that carries fp, or "" if there is none. skipped is told of each one
// that was passed over, and why.
func (s Store) Newest(fp Fingerprint, skipped func(name, reason string)) (string, State, error) {
	names, err := s.list()
	if err != nil {
		return "", State{}, err
	}
	type found struct {
		name  string
		state State
	}
	var valid []found
	for _, name := range names {
		state, err := s.check(name, fp)
		if err != nil {
			skipped(name, err.Error())
			continue
		}
		valid = append(valid, found{name, state})
	}
	if len(valid) == 0 {
		return "", State{}, nil
	}
	sort.SliceStable(valid, func(i, j int) bool { return valid[i].state.Step > valid[j].state.Step })
	return valid[0].name, valid[0].state, nil
}

func (s Store) check(name string, fp Fingerprint) (State, error) {
	if err := s.Verify(name); err != nil {
		return State{}, err
	}
	data, err := os.ReadFile(filepath.Join(s.Dir, name, stateName))
	if err != nil {
		return State{}, err
	}
	var state State
	if err := json.Unmarshal(data, &state); err != nil {
		return State{}, fmt.Errorf("its state is damaged: %w", err)
	}
	switch {
	case state.Version != stateVersion:
		return State{}, fmt.Errorf("its state has version %d, this build reads %d", state.Version, stateVersion)
	case state.Fingerprint.Config != fp.Config:
		return State{}, errors.New("it belongs to another config" + changes(state.Settings, []byte(fp.settings)))
	case state.Fingerprint.Data != fp.Data:
		return State{}, errors.New("it belongs to other data")
	case state.Fingerprint.Model != fp.Model:
		return State{}, errors.New("it belongs to another base model")
	}
	return state, nil
}

// list names the checkpoints, epochs first.
func (s Store) list() ([]string, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("training: checkpoints: %w", err)
	}
	var names []string
	for _, e := range entries {
		if _, ok := number(e.Name(), "step_"); ok && e.IsDir() {
			names = append(names, e.Name())
		} else if _, ok := number(e.Name(), "epoch_"); ok && e.IsDir() {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

// Prune deletes all step_N folders but the newest two and the one named keep, and
// what crashed saves left behind. Epochs stay: they are announced and copied.
func (s Store) Prune(keep string) error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return fmt.Errorf("training: prune checkpoints: %w", err)
	}
	var steps []int
	for _, e := range entries {
		if n, ok := number(e.Name(), "step_"); ok {
			steps = append(steps, n)
		} else if strings.HasPrefix(e.Name(), ".tmp-") {
			if err := os.RemoveAll(filepath.Join(s.Dir, e.Name())); err != nil {
				return fmt.Errorf("training: prune checkpoints: %w", err)
			}
		}
	}
	sort.Sort(sort.Reverse(sort.IntSlice(steps)))
	for _, n := range steps[min(keepSteps, len(steps)):] {
		name := "step_" + strconv.Itoa(n)
		if name == keep {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.Dir, name)); err != nil {
			return fmt.Errorf("training: prune checkpoints: %w", err)
		}
	}
	return nil
}

func number(name, prefix string) (int, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n >= 0
}

func sumFile(path string) (fileSum, error) {
	f, err := os.Open(path)
	if err != nil {
		return fileSum{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return fileSum{}, fmt.Errorf("read %s: %w", path, err)
	}
	return fileSum{Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// syncPath makes a file or a folder durable. Some systems cannot sync a folder;
// there the rename is as durable as the system makes it.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		if st, serr := f.Stat(); serr == nil && st.IsDir() {
			return nil
		}
		return err
	}
	return nil
}
