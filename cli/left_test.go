package cli_test

import (
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
)

// A dead letter says how to fetch the report that its stage left behind.
func TestADeadLetterSaysHowToFetchWhatItLeft(t *testing.T) {
	m := demoMesh()
	m.letters[0].Artifacts = []api.Artifact{{Name: "validation_report.json"}}
	want := "tunemesh artifact get " + m.letters[0].JobID + " validation_report.json"
	if r := (cmdline{t: t, mesh: m}).run("job", "dead-letters"); r.code != 0 || !strings.Contains(r.out, want) {
		t.Errorf("exit code %d, no %q in\n%s", r.code, want, r.out)
	}
}
