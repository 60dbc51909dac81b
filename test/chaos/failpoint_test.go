//go:build linux

package chaos

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/failpoint"
)

// crossings are the ways to all points but those of the founding, which come
// before there is a mesh to do anything with.
func crossings() []crossing {
	return []crossing{
		{point: failpoint.CommandUnlogged, by: aShellJob},
		{point: failpoint.CommandUnanswered, by: aShellJob},
		{point: failpoint.EntriesUnacknowledged, by: aShellJob},
		{point: failpoint.EntryUnapplied, by: aShellJob},
		{point: failpoint.EntryUnseen, by: aShellJob},
		// Before snapshots: their compaction has to get over the gap that it leaves.
		{point: failpoint.BackupUnproposed, by: aBackup},
		{point: failpoint.SnapshotUnnamed, by: manyWrites(failpoint.SnapshotUnnamed)},
		{point: failpoint.LogUntrimmed, by: manyWrites(failpoint.LogUntrimmed)},
		{point: failpoint.RestoreUnseen, by: aRestart},
		{point: failpoint.TermUnready, by: anElection},
		{point: failpoint.PlacementUnheard, by: aShellJob},
		{point: failpoint.ReportUnlogged, by: aShellJob},
		{point: failpoint.ReportUnanswered, by: aShellJob},
		{point: failpoint.TransitionUnprojected, by: aShellJob},
		{point: failpoint.TransitionUnnoted, by: aShellJob},
		{point: failpoint.LinesUnanswered, by: aShellJob},
		{point: failpoint.CopiesUnrecorded, by: aShellJob},
		{point: failpoint.ArchiveUnrecorded, by: aShellJob},
		{point: failpoint.ArchiveUnforgotten, by: aShellJob},
		{point: failpoint.TransitionsUntrimmed, by: aShellJob},
		{point: failpoint.DatasetUnrecorded, by: anUpload},

		{point: failpoint.AttemptUnbegun, by: aShellJob},
		{point: failpoint.AttemptUnlaunched, by: aShellJob},
		{point: failpoint.HandleUnrecorded, by: aShellJob},
		{point: failpoint.FoundUnrecorded, by: twoAgents},
		{point: failpoint.AdoptedUnwatched, by: anAdoption},
		{point: failpoint.PositionUnnoted, by: aShellJob},
		{point: failpoint.EndUnrecorded, by: aShellJob},
		{point: failpoint.FileUnnoted, by: aShellJob},
		{point: failpoint.UploadUnrecorded, by: aShellJob},
		{point: failpoint.ReportUnsent, by: aShellJob},
		{point: failpoint.ReportedUncleared, by: aShellJob},
		{point: failpoint.SpoolHalfKept, by: aShellJob},
		{point: failpoint.SpoolKeptUncleared, by: aShellJob},
		{point: failpoint.CheckpointUnreported, by: aTraining},
		{point: failpoint.CheckpointUnsettled, by: aTraining},
		{point: failpoint.CheckpointUnplaced, by: aLostFolder, attempts: 2},

		// A shim takes its stage along; what it has finished counts.
		{point: failpoint.ClaimUnused, by: aShellJob, attempts: 2},
		{point: failpoint.ChildUnrecorded, by: aShellJob, attempts: 2},
		{point: failpoint.ExitUnrecorded, by: aShellJob},
		{point: failpoint.CheckpointHalfSealed, by: aTraining, attempts: 2},
		{point: failpoint.CheckpointUnnamed, by: aTraining, attempts: 2},
		{point: failpoint.ResultUnwritten, by: aTraining, attempts: 2},
	}
}

// foundedOver are the points of the founding, with what is ordered there.
func foundedOver() map[failpoint.Point]string {
	return map[failpoint.Point]string{failpoint.PromiseKept: "crash", failpoint.FoundersAgreed: "crash"}
}

func TestTheCrossingsLeadOverEveryFailpointOnce(t *testing.T) {
	ways := map[failpoint.Point]int{}
	for p := range foundedOver() {
		ways[p]++
	}
	for _, x := range crossings() {
		ways[x.point]++
	}
	for _, p := range failpoint.All() {
		if ways[p] != 1 {
			t.Errorf("%d ways lead over %s, want 1", ways[p], p)
		}
		delete(ways, p)
	}
	if len(ways) > 0 {
		t.Errorf("there are no such points: %v", ways)
	}
}

// T7: a process ends by SIGKILL at each point where one step is done and the next
// is not, and is started again as a service manager would do it. Every job ends,
// by the attempts that such a crash may cost and no more, with the right bytes and
// each line once. TUNEMESH_CHAOS_FAILPOINTS are the orders given at each point in
// turns, "crash error delay:3s" for example.
func TestACrashAtEveryFailpoint(t *testing.T) {
	if !injectedBuild {
		t.Skip("needs the build that can be told to crash: TUNEMESH_CHAOS_TAG=1, or make test-chaos")
	}
	m := start(t, shape{servers: 3, agents: 1, injected: true, snapshots: 100, orders: foundedOver()})
	for p := range foundedOver() {
		if err := m.obeyed(p, 0); err != nil {
			t.Error(err)
		}
	}
	w := newWorkload(m, 1)
	w.prepare(t)
	adapter := w.calmAdapter(t)
	c := &crosser{mesh: m, work: w, storm: newStorm(w), ctx: t.Context()}
	c.storm.register(t)
	for _, what := range strings.Fields(cmp.Or(os.Getenv("TUNEMESH_CHAOS_FAILPOINTS"), "crash")) {
		for _, x := range crossings() {
			if !t.Run(what+"/"+string(x.point), func(t *testing.T) {
				if err := c.cross(x, what); err != nil {
					t.Error(err)
				}
			}) {
				return // what comes after would fail for this one's sake
			}
		}
	}
	for _, f := range m.leftovers(60 * time.Second) {
		t.Error(f)
	}
	if rep := w.checked(t, adapter); rep.succeeded != rep.jobs {
		t.Errorf("%s: want successes only", rep)
	}
	for _, f := range c.storm.equalStates() {
		t.Error(f)
	}
	if err := m.eventually(20*time.Second, func() error {
		if left := m.remains(); len(left) > 0 {
			return fmt.Errorf("crashes left files that nobody removes: %v", left)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// The product has no failpoints: no name, no switch, not even an empty function.
func TestTheProductHasNoFailpoints(t *testing.T) {
	if os.Getenv("TUNEMESH_CHAOS") == "" {
		t.Skip("builds the product: set TUNEMESH_CHAOS=1, or use make test-chaos")
	}
	names := []string{"TUNEMESH_FAILPOINTS", "TUNEMESH_CHAOS_ORDERS"}
	for _, p := range failpoint.All() {
		names = append(names, string(p))
	}
	found := func(path string) (out []string) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if bytes.Contains(data, []byte(name)) {
				out = append(out, name)
			}
		}
		return out
	}
	product := filepath.Join(t.TempDir(), "tunemesh")
	if err := buildBinary(sourceDir(), product, "product"); err != nil {
		t.Fatal(err)
	}
	if list := found(product); len(list) > 0 {
		t.Errorf("the product's binary holds %v", list)
	}
	symbols, err := exec.Command("go", "tool", "nm", product).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(symbols)) {
		if strings.Contains(line, "tunemesh/failpoint.") {
			t.Errorf("the product has code for failpoints: %s", line)
		}
	}
	// The same look finds all of them where they are.
	if injectedBuild {
		if list := found(builtBinary); !slices.Equal(list, names) {
			t.Errorf("the test build holds %d of %d names: the search finds nothing", len(list), len(names))
		}
	}
}
