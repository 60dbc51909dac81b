package evaluation_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/evaluation"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// positions is how many tokens the context of the tiny base model holds.
const positions = 160

// lengthened makes some prompts longer, as another stage's samples may be, so that the whole
// sample has so many tokens.
func lengthened(t *testing.T, in *contract.Input, which func(i int, s sample.Sample) bool, tokens int) (rows []int64) {
	t.Helper()
	i := slices.IndexFunc(in.Inputs, func(f contract.File) bool { return f.Name == sample.TestFile })
	samples, err := sample.ReadFile(in.Inputs[i].Path, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for k, s := range samples {
		if which(k, s) {
			n := tokens - len(s.Tokens)
			s.Tokens = append(slices.Repeat(s.Tokens[:1], n), s.Tokens...)
			s.PromptTokens += n
			for l := range s.Loss {
				s.Loss[l] = [2]int{s.Loss[l][0] + n, s.Loss[l][1] + n}
			}
			rows = append(rows, s.Row)
		}
		out = sample.Append(out, &s)
	}
	if err := os.WriteFile(in.Inputs[i].Path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	in.Inputs[i].Size, in.Inputs[i].SHA256 = int64(len(out)), ""
	return rows
}

// A prompt is never cut to make room for a label that is not its own: such samples are left
// out of all figures, counted and named.
func TestSamplesWithoutRoomForTheLongestLabelAreLeftOut(t *testing.T) {
	tickets := strings.ReplaceAll(string(tunedtest.Tickets(80)), ",parcel\n", ",parcel 2 3 4 5 6 7 8\n")
	in := tunedtest.Job(t, []byte(tickets), `{}`, weights.F32)
	tunedtest.AddAdapter(t, &in, 0.2, nil)
	before, _, log := evaluate(t, in)
	if _, ok := log.Warning("NO_ROOM_FOR_LABEL"); ok || before.LeftOut != 0 {
		t.Fatalf("of what preprocessing made: %d are left out", before.LeftOut)
	}
	// Their own label fits to the last token, a longer one does not.
	short := 0
	rows := lengthened(t, &in, func(_ int, s sample.Sample) bool {
		if s.Target == "bill" {
			short++
		}
		return s.Target == "bill" && short <= 2
	}, positions)
	after, result, log := evaluate(t, in)
	e, ok := log.Warning("NO_ROOM_FOR_LABEL")
	if !ok || !strings.Contains(e.Message, "behind 2 of ") || e.Fields["hint"] == "" {
		t.Errorf("%+v", e)
	}
	for _, row := range rows {
		if !strings.Contains(e.Message, "row "+jsonOf(row)+" (") {
			t.Errorf("row %d is not named: %s", row, e.Message)
		}
	}
	if after.LeftOut != 2 || after.TestSamples != before.TestSamples-2 || after.Tuned.Tokens >= before.Tuned.Tokens {
		t.Errorf("%d left out, %d of %d samples", after.LeftOut, after.TestSamples, before.TestSamples)
	}
	if r := result.Output[evaluation.OutputKey].(evaluation.Report); r.LeftOut != 2 {
		t.Errorf("the output says %d", r.LeftOut)
	}
	for _, a := range after.Answers {
		if slices.Contains(rows, a.Row) {
			t.Errorf("row %d is answered", a.Row)
		}
	}
}

// A label that leaves no sample is an error with the label, its tokens and the context's.
func TestALabelThatLeavesNoSampleIsRefused(t *testing.T) {
	in := tunedtest.Job(t, tunedtest.Tickets(40), `{}`, weights.F32)
	tunedtest.AddAdapter(t, &in, 0.1, nil)
	// Preprocessing refuses such a label: another stage has found it.
	long := strings.TrimSpace(strings.Repeat("parcel ", positions))
	raw := string(in.PreviousOutput["preprocessing"])
	if !strings.Contains(raw, `"login",`) {
		t.Fatal(raw)
	}
	in.PreviousOutput["preprocessing"] = json.RawMessage(strings.Replace(raw, `"login",`, `"login",`+jsonOf(long)+`,`, 1))
	_, _, err := stagetest.Run(context.Background(), t, evaluation.Run, in)
	f := contract.AsError(err)
	if err == nil || f.Code != "LABEL_TOO_LONG" || f.Class.Retryable() || f.File != sample.TestFile || f.Row == 0 || f.Hint == "" ||
		!strings.Contains(f.Message, `"parcel parcel`) || !strings.Contains(f.Message, "context of 160") || len(f.Message) > 500 {
		t.Errorf("%+v", f)
	}
}

func jsonOf(v any) string {
	data, _ := json.Marshal(v)
	return string(data)
}
