package nodeagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/failpoint"
	"github.com/tunemesh/tunemesh/nodeagent/cache"
	"github.com/tunemesh/tunemesh/nodeagent/capability"
	"github.com/tunemesh/tunemesh/nodeagent/launcher"
	"github.com/tunemesh/tunemesh/tracing"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// transfers is how many files one attempt moves at a time.
const transfers = 4

// prepare brings everything that the stage reads onto the disk. parent is the
// span that the stage will run under.
func (r *runner) prepare(ctx context.Context, parent string) (launcher.Spec, error) {
	as := *r.links
	ckpt := r.a.checkpointDir(as)
	for _, dir := range []string{r.p.in(), r.p.out(), r.p.scratch(), ckpt} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return launcher.Spec{}, err
		}
	}
	r.a.touchJob(as.JobID, time.Now())
	files, err := r.fetchInputs(ctx, as)
	if err != nil {
		return launcher.Spec{}, err
	}
	if err := r.restoreCheckpoint(ctx, as, ckpt); err != nil {
		return launcher.Spec{}, err
	}
	in := contract.Input{
		Contract: contract.Version, RunID: as.JobID, Stage: as.Stage.Name, Kind: as.Stage.Kind, Attempt: as.Attempt, Fence: as.Fence,
		Config: as.Config, PreviousOutput: as.PreviousOutput, Inputs: files, InputDir: r.p.in(), BaseSource: as.BaseSource, OutputDir: r.p.out(),
		CheckpointDir: ckpt, ScratchDir: r.p.scratch(),
		Devices:     contract.Devices{CPUCores: as.Devices.CPUCores, MemoryBytes: as.Devices.MemoryBytes, GPUs: as.Devices.GPUs, GPUMemoryBytes: as.Devices.GPUMemoryBytes, Engine: as.Devices.Engine},
		TraceParent: parent,
	}
	if len(in.Config) == 0 {
		in.Config = json.RawMessage("{}")
	}
	if in.PreviousOutput == nil {
		in.PreviousOutput = map[string]json.RawMessage{}
	}
	data, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		return launcher.Spec{}, fmt.Errorf("nodeagent: input document: %w", err)
	}
	if err := writeFile(r.p.input(), append(data, '\n'), 0o640); err != nil {
		return launcher.Spec{}, fmt.Errorf("nodeagent: input document: %w", err)
	}
	// The spool exists before the process does, so that it can be read at once.
	if err := os.WriteFile(r.p.events(), nil, 0o640); err != nil {
		return launcher.Spec{}, err
	}
	return launcher.Spec{
		Dir: r.p.launch(), Argv: r.command(), Env: r.environment(parent), WorkDir: r.p.scratch(),
		Stdin: r.p.input(), Output: r.p.events(), Niceness: r.a.cfg.Niceness, OOMScoreAdj: 500,
	}, nil
}

func (r *runner) command() []string {
	if r.as.Stage.Kind == api.KindCustom {
		return r.as.Stage.Command
	}
	return []string{r.a.cfg.Executable, "trainer", r.as.Stage.Kind}
}

// passed are the variables of the agent that a stage sees. It is a list of what
// may pass, since the agent's environment holds secrets.
var passed = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "SYSTEMROOT",
	"CUDA_HOME", "CUDA_PATH", "ROCM_PATH", "HF_HOME", "XDG_CACHE_HOME",
}

// traced are the variables that say where spans go. The headers may hold a
// secret, which a user's own command has no business to see.
func (r *runner) traced(name string) bool {
	return strings.HasPrefix(name, "OTEL_") && (r.as.Stage.Kind != api.KindCustom || !strings.HasSuffix(name, "_HEADERS"))
}

// judged says whether a variable is the program that the builtin export stage lets read
// its files. Nobody else has a business with what an operator wrote into it, and a
// user's command least of all.
func (r *runner) judged(name string) bool {
	return name == contract.EnvExportJudge && r.as.Stage.Kind == kindExport
}

// kindExport is the kind of the builtin export stage; a user's own stage is of
// api.KindCustom whatever it is called.
const kindExport = "export"

func (r *runner) environment(parent string) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		for _, p := range passed {
			if name == p {
				env = append(env, kv)
			}
		}
		if strings.HasPrefix(name, "LC_") || r.judged(name) || parent != "" && r.traced(name) {
			env = append(env, kv)
		}
	}
	env = append(env,
		contract.EnvInput+"="+r.p.input(), contract.EnvResult+"="+r.p.result(),
		"TMPDIR="+r.p.scratch(), "PYTHONUNBUFFERED=1", capability.StageEnv(r.a.cfg.Dir))
	if parent != "" {
		env = append(env, tracing.EnvParent+"="+parent)
	}
	d := r.as.Devices
	if d.CPUCores > 0 {
		n := strconv.Itoa(d.CPUCores)
		env = append(env, "GOMAXPROCS="+n, "OMP_NUM_THREADS="+n)
	}
	// An empty list hides all: a stage that reserved no GPU gets none.
	gpus := make([]string, len(d.GPUs))
	for i, g := range d.GPUs {
		gpus[i] = strconv.Itoa(g)
	}
	list := strings.Join(gpus, ",")
	env = append(env, "CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES="+list, "HIP_VISIBLE_DEVICES="+list)
	return slices.Concat(env, failpoint.Environment(), r.a.cfg.StageEnv)
}

func (r *runner) fetchInputs(ctx context.Context, as api.Assignment) ([]contract.File, error) {
	files := make([]contract.File, len(as.Inputs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(transfers)
	for i, in := range as.Inputs {
		path := filepath.Join(r.p.in(), in.Stage, filepath.FromSlash(in.Name))
		files[i] = contract.File{Stage: in.Stage, Name: in.Name, Path: path, Size: in.Size, SHA256: in.SHA256, OriginalName: in.OriginalName}
		g.Go(func() error { return r.fetch(gctx, in.Stage+"/"+in.Name, in.Artifact, path) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return files, nil
}

func (r *runner) fetch(ctx context.Context, what string, a api.Artifact, path string) error {
	err := r.a.cache.Place(ctx, cache.Item{SHA256: a.SHA256, Size: a.Size, URL: a.URL}, path)
	switch {
	case err == nil:
		return nil
	case asStageError(err).Code == "DISK_FULL":
		return err
	case errors.Is(err, cache.ErrCorrupt):
		return stageFault(contract.ClassTransient, "INPUT_CORRUPT", "input %s: %v", what, err)
	}
	return stageFault(contract.ClassTransient, "INPUT_UNAVAILABLE", "input %s: %v", what, err)
}

// newestFence holds the fence of the last attempt that ran here, in the folder
// beside the checkpoints, where no stage takes it for one.
const newestFence = ".fence"

// restoreCheckpoint brings the control plane's newest checkpoint into the
// stage's folder, unless the folder has it or has been worked on since.
func (r *runner) restoreCheckpoint(ctx context.Context, as api.Assignment, dir string) error {
	marker := dir + newestFence
	local := readFence(marker)
	if c := as.Checkpoint; c != nil && len(c.Files) > 0 && !exists(filepath.Join(dir, c.Name)) && (empty(dir) || c.Fence > local) {
		if err := r.downloadCheckpoint(ctx, *c, dir); err != nil {
			return err
		}
	}
	if err := os.WriteFile(marker, []byte(strconv.FormatUint(as.Fence, 10)), 0o640); err != nil {
		return fmt.Errorf("nodeagent: checkpoint folder: %w", err)
	}
	return nil
}

// restoring are folders beside the checkpoints', while one is downloaded.
const restoring = ".restore-*"

// downloadCheckpoint replaces what is in dir by one whole checkpoint.
func (r *runner) downloadCheckpoint(ctx context.Context, c api.Checkpoint, dir string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(dir), restoring)
	if err != nil {
		return fmt.Errorf("nodeagent: restore checkpoint: %w", err)
	}
	defer os.RemoveAll(tmp)
	whole := filepath.Join(tmp, c.Name)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(transfers)
	for _, f := range c.Files {
		path := filepath.Join(whole, filepath.FromSlash(f.Name))
		g.Go(func() error { return r.fetch(gctx, "checkpoint "+c.Name+"/"+f.Name, f, path) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o750); err != nil {
		return fmt.Errorf("nodeagent: restore checkpoint: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("nodeagent: restore checkpoint: %w", err)
	}
	if err := failpoint.At(failpoint.CheckpointUnplaced); err != nil {
		return fmt.Errorf("nodeagent: restore checkpoint: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("nodeagent: restore checkpoint: %w", err)
	}
	r.log.Info("checkpoint restored", "checkpoint", c.Name, "of_fence", c.Fence)
	return nil
}

func readFence(path string) uint64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err != nil || len(entries) == 0
}
