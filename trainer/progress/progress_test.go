package progress_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/progress"
)

func TestTwoEventsASecondWithTheTimeLeft(t *testing.T) {
	now := time.Unix(1000, 0)
	clock := func() time.Time { return now }
	var out bytes.Buffer
	r := progress.New(contract.NewEmitter(&out, "TestAgent", clock), "rows", 1000, clock)
	for done := int64(0); done < 1000; done += 10 {
		now = now.Add(20 * time.Millisecond)
		r.At(done)
	}
	if took := r.End(1000); took != 2 {
		t.Errorf("took %v seconds, want 2", took)
	}
	var got []contract.Progress
	for d := json.NewDecoder(&out); d.More(); {
		var e contract.Event
		if err := d.Decode(&e); err != nil {
			t.Fatal(err)
		}
		got = append(got, *e.Progress)
	}
	if len(got) != 5 {
		t.Fatalf("%d events in two seconds, want 4 and the last", len(got))
	}
	if eta := got[1].ETASeconds; eta < 0.9 || eta > 1.1 {
		t.Errorf("after half of the rows %v seconds are left, want about 1", eta)
	}
	if last := got[4]; last.Done != 1000 || last.Total != 1000 || last.ETASeconds != 0 {
		t.Errorf("the end is %+v", last)
	}
}
