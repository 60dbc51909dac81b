package cli_test

import (
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
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

// Of a training by peft the plan says on what it was planned, what each node has or
// lacks, and that it would wait.
func TestADryRunSaysWhatNodesLack(t *testing.T) {
	m := demoMesh()
	m.jobPlan = &api.JobPlan{Model: "smol", Stages: []api.StagePlan{{Stage: "training", Engine: "peft", MemoryBytes: 3 << 30,
		Settings: []api.PlanSetting{{Field: "memory", Value: "3.0 GiB", Reason: "PyTorch on the CPU"}},
		Memory:   []api.PlanPart{{Name: "weights", Bytes: 1 << 30}},
		Nodes:    []api.PlanNode{{Node: "ws-anna", Reason: "not installed: run tunemesh engine install peft"}, {Node: "gpu-1", CanRun: true, Reason: "NVIDIA L4 with 23.0 GiB"}},
		Waits:    "no node can run the engine peft",
	}}}
	r := cmdline{t: t, mesh: m}.run("job", "submit", "--dry-run")
	for _, words := range []string{"Engine", "peft", "Would wait", "no node can run the engine peft", "PyTorch on the CPU", "ws-anna  no", "not installed: run tunemesh engine install peft", "gpu-1    yes", "NVIDIA L4"} {
		if !strings.Contains(r.out, words) {
			t.Errorf("the plan does not say %q:\n%s", words, r.out)
		}
	}
}
