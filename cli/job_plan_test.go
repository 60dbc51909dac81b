package cli_test

import (
	"strings"
	"testing"
)

// With --dry-run the plan is shown and nothing is uploaded or submitted.
func TestADryRunSubmitsNothing(t *testing.T) {
	rows := file(t, "tickets.csv", "text,label\na,b\n")
	for name, args := range map[string][]string{"a file": {"--dataset", rows}, "a dataset": {"--dataset", someDataset}, "no dataset": nil} {
		t.Run(name, func(t *testing.T) {
			m := demoMesh()
			r := cmdline{t: t, mesh: m}.run(append([]string{"job", "submit", "--dry-run", "--set", "training.epochs=2"}, args...)...)
			if r.code != 0 || len(m.submitted) != 0 || len(m.uploads) != 0 || len(m.planned) != 1 {
				t.Fatalf("exit code %d, submitted %d, uploaded %d, planned %d: %s", r.code, len(m.submitted), len(m.uploads), len(m.planned), r.err)
			}
			for _, words := range []string{"training.batch_size", "batch 8 x 128 tokens", "activations"} {
				if !strings.Contains(r.out, words) {
					t.Errorf("the plan does not say %q:\n%s", words, r.out)
				}
			}
			if got := string(m.planned[0].Config); !sameJSON(t, got, `{"training":{"epochs":2}}`) || (m.planned[0].Dataset == someDataset) != (name == "a dataset") {
				t.Errorf("planned %+v", m.planned[0])
			}
		})
	}
	m := demoMesh()
	r := cmdline{t: t, mesh: m}.run("job", "submit", "--dry-run", "--json", "--dataset", someDataset)
	if r.code != 0 || !strings.Contains(r.out, `"memory_bytes"`) {
		t.Errorf("%d %s %s", r.code, r.out, r.err)
	}
	if r := (cmdline{t: t, mesh: demoMesh()}).run("job", "submit", "--dry-run", "--dataset", "nowhere.csv"); r.code == 0 {
		t.Error("a file that is not there was planned for")
	}
}
