package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/dispatch"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

func TestAJobIsCarriedToItsEnd(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		r.job("j", stage("a", "custom"), stage("b", "training"))
		r.report(r.running("j", "a"), fine())
		r.settle()
		a := r.attempt(r.running("j", "b"))
		if a.Devices.CPUCores != 0 || a.NodeID != "n1" {
			t.Fatalf("attempt %+v", a)
		}
		r.report(a.Fence, fine())
		r.settle()
		want := "job is pending: submitted\nstage a is ready\njob is running\nstage a is placed on n1 (attempt 1)\nstage a has succeeded\n" +
			"stage b is ready\nstage b is placed on n1 (attempt 1)\nstage b has succeeded\njob has succeeded\n"
		if got := r.log.story(t, "j"); got != want {
			t.Errorf("story:\n%swant:\n%s", got, want)
		}
		if left := r.store.TransitionBacklogs(); len(left) != 0 {
			t.Errorf("transitions of the ended job are kept: %+v", left)
		}
		if got := fmt.Sprint(r.publisher.done); got != "[j/a j/b]" || !r.stage("j", "b").Published {
			t.Errorf("published %s", got)
		}
	})
}

func TestAnIdleLeaderDoesNothing(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		r.job("j", stage("a", "training"))
		r.running("j", "a")
		r.settle()
		before := r.index
		r.pass(time.Hour)
		if r.index != before {
			t.Fatalf("%d commands in an idle hour", r.index-before)
		}
	})
}

func TestWaitReasonsAreKnownInWords(t *testing.T) {
	inBubble(t, func(r *rig) {
		s := stage("a", "training")
		s.Requires = api.Requirements{GPUs: 1, GPUMemoryBytes: 8 << 30}
		r.job("j", s)
		if got := r.d.WaitReason("j", "a"); got != "no node has joined yet" {
			t.Errorf("got %q", got)
		}
		r.register("n1", 2)
		r.settle()
		if got := r.d.WaitReason("j", "a"); got != "no node is connected; nearest: n1, disconnected" {
			t.Errorf("got %q", got)
		}
		r.beating("n1", 2)
		if got := r.d.WaitReason("j", "a"); got != "no node has a GPU with 8 GiB free; nearest: n1, CPU only" {
			t.Errorf("got %q", got)
		}
		if got := r.d.WaitReason("j", "zz"); got != "" {
			t.Errorf("got %q", got)
		}
	})
}

func TestFailuresAreRetriedLaterAndLaterAndThenADeadLetter(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		r.job("j", stage("a", "custom"))
		for i, wait := range []time.Duration{500 * time.Millisecond, time.Second} { // half of 1 s, 2 s
			fence := r.running("j", "a")
			failedAt := time.Now()
			r.report(fence, broken("transient", true))
			s := r.wantStage("j", "a", api.StageReady)
			if got := s.NotBefore.Sub(failedAt); got != wait {
				t.Fatalf("failure %d: waits %s, want %s", i+1, got, wait)
			}
			r.settle()
			if got := r.d.WaitReason("j", "a"); !strings.HasPrefix(got, "the next attempt may start at ") {
				t.Fatalf("reason %q", got)
			}
			time.Sleep(wait)
		}
		r.report(r.running("j", "a"), broken("transient", true))
		r.wantStage("j", "a", api.StageFailed)
		dead := r.store.DeadLetters("j")
		if len(dead) != 1 || dead[0].Tries != 3 || len(dead[0].Events) != 1 || dead[0].Events[0].Message != "the last words" {
			t.Fatalf("dead letters %+v", dead)
		}

		r.must(state.ResumeJob{JobID: "j", At: time.Now()})
		r.settle()
		r.report(r.running("j", "a"), fine())
		if j, _ := r.store.Job("j"); j.State != api.JobSucceeded {
			t.Fatalf("job %+v", j)
		}
	})
}

func TestBadInputGoesStraightToTheDeadLetters(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		r.job("j", stage("a", "custom"))
		r.report(r.running("j", "a"), broken("bad_input", false))
		if d := r.store.DeadLetters("j"); len(d) != 1 || d[0].Tries != 1 || len(d[0].Events) != 1 {
			t.Fatalf("dead letters %+v", d)
		}
	})
}

func TestTheBackoffHasACap(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		s := stage("a", "custom")
		s.MaxAttempts = 20
		r.job("j", s)
		for range 10 {
			r.report(r.running("j", "a"), broken("transient", true))
			r.pass(31 * time.Second)
		}
		failedAt := time.Now()
		r.report(r.running("j", "a"), broken("transient", true))
		if got := r.stage("j", "a").NotBefore.Sub(failedAt); got != 30*time.Second { // half of the cap
			t.Fatalf("waits %s", got)
		}
	})
}

func TestAMachineThatWasRestartedGoesOnAtOnceAndUsesUpNoTry(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		r.job("j", stage("a", "training"))
		old := r.running("j", "a")
		r.elect() // everything was killed; the server comes back first
		r.settle()
		if s := r.wantStage("j", "a", api.StageRunning); s.Fence != old {
			t.Fatal("placed anew before its node said anything")
		}
		r.beats["n1"] = func() []uint64 { return nil }
		r.beat("n1")
		vanished := broken("interrupted", true)
		vanished.Error.Code = "VANISHED"
		r.report(old, vanished)
		r.settle()
		s := r.wantStage("j", "a", api.StageRunning)
		if s.Fence == old || s.Attempt != 2 || s.Tries != 0 {
			t.Fatalf("stage %+v", s)
		}
	})
}

func TestASilentNodesAttemptsAreUnknownAndLostOnlyAfterTheGrace(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		long := stage("a", "training")
		long.MaxDisconnect = "10m"
		r.job("j", long)
		fence := r.running("j", "a")
		delete(r.beats, "n1")
		r.beating("n2", 2)

		r.pass(15 * time.Second)
		if s := r.attempt(fence).State; s != api.AttemptRunning {
			t.Fatalf("%s within the lease", s)
		}
		r.pass(10 * time.Second)
		if s := r.attempt(fence).State; s != api.AttemptUnknown {
			t.Fatalf("%s after the lease", s)
		}
		n := api.Node{ID: "n1"}
		if r.d.FillNode(&n); n.Status != api.NodeDisconnected || n.LastSeen == nil || n.Running != 1 {
			t.Fatalf("node %+v", n)
		}
		r.pass(9 * time.Minute)
		if s := r.attempt(fence).State; s != api.AttemptUnknown {
			t.Fatalf("%s within the grace", s)
		}
		r.pass(time.Minute)
		if s := r.attempt(fence).State; s != api.AttemptLost {
			t.Fatalf("%s after the grace", s)
		}
		s := r.wantStage("j", "a", api.StageRunning)
		if s.Node != "n2" || s.Tries != 0 || s.Attempt != 2 {
			t.Fatalf("stage %+v", s)
		}
		// The old node is back too late: the fence decides.
		r.beats["n1"] = func() []uint64 { return []uint64{fence} }
		if reply := r.beat("n1"); !slices.Equal(reply.Stale, []uint64{fence}) || !reply.Registered {
			t.Fatalf("reply %+v", reply)
		}
		if err := r.d.Report(context.Background(), fence, fine()); !errors.Is(err, state.ErrStaleFence) {
			t.Fatalf("late report: %v", err)
		}
		r.report(s.Fence, fine())
	})
}

func TestACheapStageIsPlacedAnewAsSoonAsItsNodeIsSilent(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		r.job("j", stage("a", "custom"))
		r.running("j", "a")
		delete(r.beats, "n1")
		r.beating("n2", 2)
		r.pass(21 * time.Second)
		if s := r.wantStage("j", "a", api.StageRunning); s.Node != "n2" {
			t.Fatalf("stage %+v", s)
		}
	})
}

func TestANodeThatComesBackInTimeGoesOn(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		long := stage("a", "training")
		long.MaxDisconnect = "10m"
		r.job("j", long)
		fence := r.running("j", "a")
		named := r.beats["n1"]
		delete(r.beats, "n1")
		r.pass(5 * time.Minute)
		if s := r.attempt(fence).State; s != api.AttemptUnknown {
			t.Fatal(s)
		}
		r.beats["n1"] = named
		if reply := r.beat("n1"); len(reply.Stale) != 0 {
			t.Fatalf("reply %+v", reply)
		}
		if s := r.attempt(fence).State; s != api.AttemptRunning {
			t.Fatal(s)
		}
		r.pass(time.Hour)
		r.report(fence, fine())
	})
}

func TestANewLeaderGivesEverybodyTimeToSpeak(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		r.job("j", stage("a", "custom"))
		fence := r.running("j", "a")
		delete(r.beats, "n1")
		r.elect()
		n := api.Node{ID: "n1"}
		if r.d.FillNode(&n); n.Status != api.NodeUnseen || n.LastSeen != nil {
			t.Fatalf("node %+v", n)
		}
		r.pass(39 * time.Second)
		if s := r.attempt(fence).State; s != api.AttemptRunning {
			t.Fatalf("%s within the new leader's grace", s)
		}
		r.pass(2 * time.Second)
		if s := r.attempt(fence).State; s != api.AttemptLost {
			t.Fatalf("%s after it", s)
		}
	})
}

// The old leader's clock may be another one: the grace is counted on the new
// leader's own, from the end of the time that it gives everybody.
func TestANewLeaderCountsTheGraceAnew(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		long := stage("a", "training")
		long.MaxDisconnect = "10m"
		r.job("j", long)
		fence := r.running("j", "a")
		delete(r.beats, "n1")
		r.pass(9 * time.Minute)
		r.elect()
		r.pass(10*time.Minute + 30*time.Second)
		if s := r.attempt(fence).State; s != api.AttemptUnknown {
			t.Fatalf("%s within the grace", s)
		}
		r.pass(15 * time.Second)
		if s := r.attempt(fence).State; s != api.AttemptLost {
			t.Fatalf("%s after it", s)
		}
	})
}

func TestANewLeaderLearnsThatUnknownAttemptsRun(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		long := stage("a", "training")
		long.MaxDisconnect = "10m"
		r.job("j", long)
		fence := r.running("j", "a")
		named := r.beats["n1"]
		delete(r.beats, "n1")
		r.pass(time.Minute)
		r.elect()
		r.beats["n1"] = named
		r.beat("n1")
		if s := r.attempt(fence).State; s != api.AttemptRunning {
			t.Fatal(s)
		}
	})
}

func TestAnAttemptThatItsNodeNoLongerRunsIsLostQuickly(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		long := stage("a", "training")
		long.MaxDisconnect = "10m"
		r.job("j", long)
		fence := r.running("j", "a")
		r.beats["n1"] = func() []uint64 { return nil }
		r.beat("n1")
		r.beat("n1")
		if s := r.attempt(fence).State; s != api.AttemptRunning {
			t.Fatalf("%s after two heartbeats without it", s)
		}
		r.beat("n1")
		if s := r.attempt(fence).State; s != api.AttemptLost {
			t.Fatalf("%s after three", s)
		}
		if s := r.wantStage("j", "a", api.StageRunning); s.Attempt != 2 {
			t.Fatalf("stage %+v", s)
		}
	})
}

func TestAPlacedAttemptThatIsNeverStartedIsLostInTheEnd(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		r.beats["n1"] = func() []uint64 { return nil }
		r.job("j", stage("a", "custom"))
		fence := r.wantStage("j", "a", api.StageRunning).Fence
		r.pass(90 * time.Second)
		if s := r.attempt(fence).State; s != api.AttemptPlaced {
			t.Fatal(s)
		}
		r.pass(time.Minute)
		if s := r.attempt(fence).State; s != api.AttemptLost {
			t.Fatal(s)
		}
	})
}

func TestAHeartbeatSaysWhetherToRegister(t *testing.T) {
	inBubble(t, func(r *rig) {
		reply, err := r.d.Heartbeat("n9", api.Heartbeat{})
		if err != nil || reply.Registered {
			t.Fatalf("%+v, %v", reply, err)
		}
		r.register("n1", 2)
		reply, _ = r.d.Heartbeat("n1", api.Heartbeat{Digest: "d2", Fences: []uint64{77}})
		if reply.Registered || !slices.Equal(reply.Stale, []uint64{77}) {
			t.Fatalf("%+v", reply)
		}
	})
}

func TestReportsThatComeTogetherBecomeOneEntry(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 100)
		var all []api.StageSpec
		for i := range 60 {
			all = append(all, stage(fmt.Sprintf("s%d", i), "custom"))
		}
		r.must(state.CreateJob{Spec: api.JobSpec{ID: "j"}, Pipeline: api.Pipeline{Nodes: all}, At: time.Now()})
		r.settle()
		attempts := r.store.AttemptsOnNode("n1")
		if len(attempts) != 60 {
			t.Fatalf("%d placed", len(attempts))
		}
		slow := make(chan struct{})
		r.mu.Lock()
		r.slow = slow
		r.mu.Unlock()
		var reporting sync.WaitGroup
		for _, a := range attempts {
			reporting.Go(func() { r.report(a.Fence, fine()) })
		}
		time.Sleep(time.Second)
		r.mu.Lock()
		r.slow = nil
		r.mu.Unlock()
		close(slow)
		reporting.Wait()
		if n := r.count("report_attempts"); n > 3 {
			t.Errorf("60 reports in %d entries", n)
		}
		if j, _ := r.store.Job("j"); j.State != api.JobSucceeded {
			t.Errorf("job %s", j.State)
		}
	})
}

func TestWhatFailsIsTriedAgain(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		r.log.setDown(true)
		r.publisher.failures = 3
		r.job("j", stage("a", "custom"))
		r.report(r.running("j", "a"), fine())
		r.pass(30 * time.Second)
		if !r.stage("j", "a").Published {
			t.Error("never published")
		}
		if r.log.story(t, "j") != "" || len(r.store.TransitionBacklogs()) == 0 {
			t.Error("the event log was down")
		}
		r.log.setDown(false)
		r.pass(5 * time.Second)
		if !strings.HasSuffix(r.log.story(t, "j"), "job has succeeded\n") {
			t.Errorf("story:\n%s", r.log.story(t, "j"))
		}

		r.setDown(true)
		if err := r.d.Report(context.Background(), 1, fine()); !errors.Is(err, errDown) {
			t.Errorf("report without a quorum: %v", err)
		}
		r.setDown(false)
		r.job("k", stage("a", "custom"))
		r.pass(2 * time.Second)
		r.wantStage("k", "a", api.StageRunning)
	})
}

func TestEachStateChangeIsToldExactlyOnceAcrossLeaders(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		r.job("j", stage("a", "custom"), stage("b", "custom"))
		r.report(r.running("j", "a"), fine())
		r.elect()
		r.beat("n1")
		r.report(r.running("j", "b"), broken("config", false))
		r.settle()
		r.must(state.ResumeJob{JobID: "j", At: time.Now()})
		r.elect()
		r.beat("n1")
		r.report(r.running("j", "b"), fine())
		r.settle()
		story := r.log.story(t, "j")
		for _, line := range []string{"stage a has succeeded", "stage b failed: it broke", "job failed: stage b failed: it broke", "job is running: resumed", "job has succeeded"} {
			if strings.Count(story, "\n"+line+"\n") != 1 {
				t.Errorf("%q is not there once in\n%s", line, story)
			}
		}
	})
}

func TestALogThatLostEventsIsToldSoAndNotStuck(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n1", 2)
		r.job("j", stage("a", "custom"))
		r.report(r.running("j", "a"), broken("config", false))
		r.settle() // the job has ended: its transitions are trimmed
		r.log.mu.Lock()
		clear(r.log.lines)
		clear(r.log.next)
		r.log.mu.Unlock()
		r.must(state.ResumeJob{JobID: "j", At: time.Now()})
		r.settle()
		r.report(r.running("j", "a"), fine())
		r.settle()
		story := r.log.story(t, "j")
		if !strings.Contains(story, "no longer known") || !strings.HasSuffix(story, "job has succeeded\n") {
			t.Errorf("story:\n%s", story)
		}
	})
}

func TestWithoutLeadingNothingIsAnswered(t *testing.T) {
	s, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	d := dispatch.New(dispatch.Config{Store: s})
	if _, err := d.Heartbeat("n1", api.Heartbeat{}); !errors.Is(err, dispatch.ErrNotLeading) {
		t.Error(err)
	}
	if err := d.Report(context.Background(), 1, fine()); !errors.Is(err, dispatch.ErrNotLeading) {
		t.Error(err)
	}
	n := api.Node{ID: "n1"}
	if d.FillNode(&n); n.Status != api.NodeUnseen || d.WaitReason("j", "a") != "" {
		t.Error("a follower knows something")
	}
}
