package dispatch_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// A backup's rows carry older indexes than the leader has seen. Its jobs are told
// and placed all the same, and nothing of the state before is reckoned with.
func TestALeaderFollowsABackupThatIsRestoredUnderIt(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 1)
		backup, err := state.New()
		if err != nil {
			t.Fatal(err)
		}
		was := r.store.At()
		var buffer bytes.Buffer
		if err := was.WriteSnapshot(&buffer); err != nil {
			t.Fatal(err)
		}
		if err := backup.Restore(&buffer); err != nil {
			t.Fatal(err)
		}
		// In the backup k waits and c was cancelled; here j holds the node's only core.
		for _, c := range []state.Command{
			state.CreateJob{Spec: api.JobSpec{ID: "k"}, At: time.Now(), Pipeline: api.Pipeline{Nodes: []api.StageSpec{stage("a", "custom")}}},
			state.CreateJob{Spec: api.JobSpec{ID: "c"}, At: time.Now(), Pipeline: api.Pipeline{Nodes: []api.StageSpec{stage("a", "custom")}}},
			state.CancelJob{JobID: "c", At: time.Now()},
		} {
			entry, err := state.Encode(c)
			if err != nil {
				t.Fatal(err)
			}
			if result, err := backup.Apply(backup.Index()+1, entry); err != nil || result.Err != nil {
				t.Fatal(err, result.Err)
			}
		}
		for _, id := range []string{"j", "later"} {
			r.job(id, stage("a", "custom"))
		}
		r.running("j", "a")
		r.settle()

		r.mu.Lock()
		index := r.index + 1<<32
		err = backup.Graft(r.store.At(), index)
		buffer.Reset()
		if err == nil {
			err = backup.WriteSnapshot(&buffer)
		}
		if err == nil {
			err = r.store.Restore(&buffer)
		}
		r.index = index
		r.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}

		r.settle()
		if story := r.log.story(t, "c"); !strings.Contains(story, "cancelled") {
			t.Errorf("of the job that had ended in the backup the log says %q", story)
		}
		r.report(r.running("k", "a"), fine())
		r.settle()
		if story := r.log.story(t, "k"); !strings.HasSuffix(story, "job has succeeded\n") {
			t.Errorf("of the job that waited in the backup the log says %q", story)
		}
		if left := r.store.TransitionBacklogs(); len(left) != 0 {
			t.Errorf("not trimmed: %+v", left)
		}
	})
}
