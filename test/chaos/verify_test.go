//go:build linux

package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGrowthIsSeen(t *testing.T) {
	if growth(map[string]usage{"s1": {goroutines: 50, files: 20}}, map[string]usage{"s1": {goroutines: 140, files: 85}}) != nil {
		t.Error("growth where there is none")
	}
	if len(growth(map[string]usage{"s1": {goroutines: 50, files: 20}}, map[string]usage{"s1": {goroutines: 500, files: 200}})) != 2 {
		t.Error("growth is not seen")
	}
}

func TestReportsOfDataRacesAndPanicsAreFound(t *testing.T) {
	m := &mesh{dir: t.TempDir()}
	if list := m.panics(); len(list) > 0 {
		t.Errorf("found where there are none: %v", list)
	}
	for name, text := range map[string]string{"race.123": "WARNING: DATA RACE\n", "s1.log": "started\npanic: oh\n"} {
		if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if list := m.panics(); len(list) != 2 || !strings.Contains(list[0], "DATA RACE") || !strings.Contains(list[1], "panic: oh") {
		t.Errorf("found %q", list)
	}
}
