package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// EnvEngines names the folders in which engines are installed, separated like
// PATH. The agent looks into them for what its node can do, a stage for what it
// starts.
const EnvEngines = "TUNEMESH_ENGINES"

// EngineFile is the file NAME/engine.json in such a folder. It is written last,
// when the engine has made a step: an environment without it is half made.
const EngineFile = "engine.json"

// EngineVersion is the version of EngineManifest.
const EngineVersion = 1

// EngineManifest is what is known of an installed engine.
type EngineManifest struct {
	Version     int               `json:"version"`
	Engine      string            `json:"engine"`      // peft
	Python      string            `json:"python"`      // the environment's interpreter, absolute
	Accelerator string            `json:"accelerator"` // cpu, cuda, rocm, mps: what it was made for
	Devices     []string          `json:"devices"`     // what its torch saw: cpu, cuda, mps
	Packages    map[string]string `json:"packages"`    // torch: 2.9.0, ...
	// Notes say what it cannot do here: "torch sees no CUDA device: ...".
	Notes        []string  `json:"notes,omitempty"`
	Requirements string    `json:"requirements_sha256,omitempty"` // empty for an environment of the user's own
	InstalledAt  time.Time `json:"installed_at"`
}

// ErrNoEngine says that no folder holds the engine.
var ErrNoEngine = errors.New("not installed")

// FindEngine reads the manifest of an engine from the first of the folders that
// has one. A manifest whose interpreter is gone is an error that says so.
func FindEngine(folders []string, name string) (EngineManifest, error) {
	for _, dir := range folders {
		path := filepath.Join(dir, name, EngineFile)
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return EngineManifest{}, fmt.Errorf("engine %s: %w", name, err)
		}
		m, err := ParseEngineManifest(data)
		if err != nil {
			return EngineManifest{}, fmt.Errorf("%s: %w", path, err)
		}
		if _, err := os.Stat(m.Python); err != nil {
			return EngineManifest{}, fmt.Errorf("its environment is gone (%w): run tunemesh engine install %s", err, name)
		}
		return m, nil
	}
	return EngineManifest{}, fmt.Errorf("%w: run tunemesh engine install %s", ErrNoEngine, name)
}

// ParseEngineManifest decodes and checks a manifest.
func ParseEngineManifest(data []byte) (EngineManifest, error) {
	var m EngineManifest
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("engine manifest: %w", err)
	}
	switch {
	case m.Version != EngineVersion:
		return m, fmt.Errorf("engine manifest has version %d, this build reads %d: run tunemesh engine install %s", m.Version, EngineVersion, m.Engine)
	case m.Engine == "" || !filepath.IsAbs(m.Python):
		return m, errors.New("engine manifest lacks engine or python")
	}
	return m, nil
}

// EngineFolders are the folders to look into: those that the environment names,
// the agent's own (dir/engines, unless dir is empty), and this user's.
func EngineFolders(dir string) []string {
	var list []string
	for _, d := range filepath.SplitList(os.Getenv(EnvEngines)) {
		if strings.TrimSpace(d) != "" {
			list = append(list, d)
		}
	}
	if dir != "" {
		list = append(list, filepath.Join(dir, "engines"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		list = append(list, filepath.Join(home, ".local", "share", "tunemesh", "engines"))
	}
	return list
}
