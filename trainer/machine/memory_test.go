package machine

import (
	"os"
	"path/filepath"
	"testing"
)

// The least that a group above the process has left counts; what is cached of files can be
// taken back.
func TestTheNarrowestGroupCounts(t *testing.T) {
	root := t.TempDir()
	self := filepath.Join(root, "self")
	for path, text := range map[string]string{
		"self":                        "12:cpu:/old\n0::/slice/job\n",
		"slice/job/memory.max":        "1000\n",
		"slice/job/memory.current":    "700\n",
		"slice/job/memory.stat":       "anon 400\ninactive_file 300\n",
		"slice/memory.max":            "900\n",
		"slice/memory.current":        "800\n",
		"memory.max":                  "max\n",
		"other/memory.max":            "1\n",
		"slice/job/below/memory.max":  "2\n",
		"slice/job/below/memory.stat": "",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if free, ok := groupMemory(root, self); !ok || free != 100 {
		t.Errorf("%d bytes left, limited: %v; want the slice's 100", free, ok)
	}
	if err := os.Remove(filepath.Join(root, "slice/memory.max")); err != nil {
		t.Fatal(err)
	}
	if free, ok := groupMemory(root, self); !ok || free != 600 {
		t.Errorf("%d bytes left, limited: %v; want the job's 600", free, ok)
	}
	if _, ok := groupMemory(root, filepath.Join(root, "nothing")); ok {
		t.Error("a limit where there is no group")
	}
	if FreeMemory() < 1<<20 {
		t.Errorf("%d bytes are free on this machine", FreeMemory())
	}
}
