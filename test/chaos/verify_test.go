//go:build linux

package chaos

import "testing"

func TestGrowthIsSeen(t *testing.T) {
	if growth(map[string]usage{"s1": {goroutines: 50, files: 20}}, map[string]usage{"s1": {goroutines: 140, files: 85}}) != nil {
		t.Error("growth where there is none")
	}
	if len(growth(map[string]usage{"s1": {goroutines: 50, files: 20}}, map[string]usage{"s1": {goroutines: 500, files: 200}})) != 2 {
		t.Error("growth is not seen")
	}
}
