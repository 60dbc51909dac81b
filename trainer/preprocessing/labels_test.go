package preprocessing_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/preprocessing"
	"github.com/tunemesh/tunemesh/trainer/sample"
)

// own keeps the labels out of the prompts, as a user's instruction does.
const own = `"instruction":"Classify."`

// words is a label or text of n words.
func words(word string, n int) string { return strings.TrimSpace(strings.Repeat(word+" ", n)) }

func refusal(t *testing.T, data, config string) *contract.Error {
	t.Helper()
	_, _, err := stagetest.Run(context.Background(), t, preprocessing.Run, prepare(t, "x.csv", []byte(data), config))
	if err == nil {
		t.Fatal("it was taken")
	}
	return contract.AsError(err)
}

// Three rows of 63 are no tenth of them, and yet nothing could be evaluated: the job ends
// before the training, with the label, its rows, its tokens, the limit and what helps.
func TestALabelThatCannotFitIsRefused(t *testing.T) {
	huge := words("alpha", 200)
	data := lamps(60) + strings.Repeat("an odd lamp,"+huge+"\n", 3)
	for name, c := range map[string]struct{ config, message, hint string }{
		"longer than the model's context": {`{` + own + `}`, "into the limit of 512 behind the shortest prompt", "choose a model whose context holds"},
		// The default instruction names the labels: no text at all has room behind it.
		"and named in every prompt":       {`{}`, "into the limit of 512", "shorter instruction than the default one"},
		"longer than the config's limit":  {`{` + own + `,"preprocessing":{"max_length":64}}`, "into the limit of 64 behind", "at most to the 512 tokens of the model's context"},
		"with duplicates of its own rows": {`{` + own + `,"preprocessing":{"keep_duplicates":true}}`, "into the limit of 512 behind", "shorten it in its rows"},
	} {
		t.Run(name, func(t *testing.T) {
			f := refusal(t, data, c.config)
			if f.Code != "LABEL_TOO_LONG" || f.Class != contract.ClassBadInput || f.File != "x.csv" || f.Row != 62 || f.Column != "label" {
				t.Errorf("%+v", f)
			}
			if !strings.HasPrefix(f.Message, `the label "alpha alpha`) || !strings.Contains(f.Message, "(3 rows) takes 801 tokens") || !strings.Contains(f.Message, c.message) || !strings.Contains(f.Hint, c.hint) {
				t.Errorf("%q\n%q", f.Message, f.Hint)
			}
			if len(f.Message) > 400 {
				t.Errorf("the whole label is in the message: %q", f.Message)
			}
		})
	}
	p, err := previewOf(t, "x.csv", data, `{`+own+`}`)
	if err != nil || len(p.Faults) != 1 || p.Faults[0].Code != "LABEL_TOO_LONG" || p.Faults[0].Stage != "preprocessing" || p.Faults[0].Row != 62 || p.Faults[0].Column != "label" || p.Faults[0].Hint == "" {
		t.Errorf("the preview: %+v, %v", p, err)
	}
}

// A label that fits behind its own short texts, and behind none of the others: their prompts
// would have to be cut to compare it with theirs.
func TestALabelThatLeavesTooLittleRoomIsRefused(t *testing.T) {
	var b strings.Builder
	b.WriteString("text,label\n")
	for i := range 40 {
		fmt.Fprintf(&b, "lamp %d %s,%s\n", i, words("beta", 30), []string{"good", "bad"}[i%2])
	}
	fmt.Fprintf(&b, "an odd lamp,%s\n", words("alpha", 110))
	f := refusal(t, b.String(), `{`+own+`}`)
	if f.Code != "LABEL_TOO_LONG" || f.Row != 42 || !strings.Contains(f.Message, "of the model's context of 512 to the prompts, and of 41 samples 40 need more: row 2 (") {
		t.Errorf("%+v", f)
	}
}

// A text is kept or left out by its prompt and the longest label: whether it can be learnt and
// evaluated does not depend on which label it has.
func TestATextNeedsRoomForTheLongestLabel(t *testing.T) {
	long := words("alpha", 15)
	data := lamps(60) + "the last lamp," + long + "\n" + words("beta", 150) + ",a\n"
	sum, out, log := run(t, prepare(t, "x.csv", []byte(data), `{`+own+`}`))
	e, ok := log.Warning("NO_ROOM_FOR_LABEL")
	if !ok || !strings.Contains(e.Message, "1 samples leave no room") || !strings.Contains(e.Message, "row 63 (") || e.Fields["hint"] == "" {
		t.Errorf("%+v", e)
	}
	if _, ok := log.Warning("SAMPLES_TOO_LONG"); ok {
		t.Error("with its own label it fits")
	}
	if sum.Dropped[sample.DroppedTooLong] != 1 || sum.Train+sum.Validation+sum.Test != 61 {
		t.Errorf("%+v", sum)
	}
	longest := 0
	for _, samples := range out {
		for _, s := range samples {
			longest = max(longest, s.Loss[0][1]-s.Loss[0][0])
		}
	}
	for name, samples := range out {
		for _, s := range samples {
			if s.PromptTokens+longest > 512 {
				t.Errorf("%s row %d: a prompt of %d tokens with a label of %d", name, s.Row, s.PromptTokens, longest)
			}
		}
	}
	// The same text fits where the labels are short.
	data = strings.Replace(data, long, "b", 1)
	if sum, _, _ := run(t, prepare(t, "x.csv", []byte(data), `{`+own+`}`)); sum.Dropped[sample.DroppedTooLong] != 0 {
		t.Errorf("with short labels: %+v", sum)
	}
	// max_length is of what is trained on, the model's context of what is asked.
	in := prepare(t, "x.csv", []byte(lamps(60)+"the last lamp,"+long+"\n"), `{`+own+`,"preprocessing":{"max_length":100}}`)
	if sum, _, _ := run(t, in); sum.Dropped[sample.DroppedTooLong] != 0 || sum.TokenLimit != 100 {
		t.Errorf("within max_length: %+v", sum)
	}
}

// Where the limit is the model's, there is nothing to raise.
func TestTheAdviceAgainstLongTextsCanBeTaken(t *testing.T) {
	long := "text,label\n" + strings.Repeat(words("beta", 400)+",a\n"+words("gamma", 400)+",b\n", 6)
	for _, c := range []struct{ data, config, code, has, hasNot string }{
		{long, `{}`, "EMPTY_SPLIT", "choose a model whose context holds", "max_length"},
		{lamps(40), `{"preprocessing":{"max_length":20}}`, "EMPTY_SPLIT", "raise preprocessing.max_length to ", "choose"},
		{long, `{"preprocessing":{"max_length":20}}`, "EMPTY_SPLIT", "at most to the 512 tokens of the model's context, or choose", ""},
		{lamps(40) + long[len("text,label\n"):], `{"preprocessing":{"keep_duplicates":true}}`, "ANSWERS_CUT_OFF", "choose a model whose context holds", "max_length"},
	} {
		f := refusal(t, c.data, c.config)
		if f.Code != c.code || f.File != "x.csv" || !strings.Contains(f.Hint, c.has) || c.hasNot != "" && strings.Contains(f.Hint, c.hasNot) {
			t.Errorf("%s: %s, hint %q", c.config, f, f.Hint)
		}
	}
}

// silent is a template of a model that thinks: it keeps the thoughts out of what is learnt,
// and writes nothing behind an answer.
const silent = `{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content.split('</think>')[-1] }}{% else %}<|im_start|>{{ m.content }}<|im_end|>{% endif %}{% endfor %}`

// Rows of which every token is masked teach nothing. Few of them are left out with a warning,
// more than a tenth are refused before the training, with the row.
func TestRowsWithEveryTokenMaskedAreSaidBeforeTraining(t *testing.T) {
	of := func(good, masked int) string {
		var b strings.Builder
		b.WriteString("question,answer\n")
		for i := range good {
			fmt.Fprintf(&b, "what is lamp number %d like,<think>hm</think>it is round and blue %d\n", i, i)
		}
		for i := range masked {
			fmt.Fprintf(&b, "and what of the hub with number %d,<think>I cannot say %d</think>\n", i, i)
		}
		return b.String()
	}
	in := func(data string) contract.Input {
		in := prepare(t, "x.csv", []byte(data), `{"task":"qa"}`)
		stagetest.AddFile(t, &in, contract.ModelInputs, "chat_template.jinja", []byte(silent))
		return in
	}
	sum, out, log := run(t, in(of(40, 2)))
	e, ok := log.Warning("NOTHING_TO_LEARN")
	if sum.Dropped[sample.DroppedNoLoss] != 2 || !ok || !strings.Contains(e.Message, "row 42 (") || !strings.Contains(e.Message, "row 43 (") {
		t.Errorf("%+v, %+v", sum, e)
	}
	for name, samples := range out {
		for _, s := range samples {
			if s.LossTokens() == 0 {
				t.Errorf("%s row %d has no token to learn", name, s.Row)
			}
		}
	}
	for masked, message := range map[int]string{5: "5 of 25 samples hold no token to learn: row 22 (", 20: "20 of 40 samples"} {
		_, _, err := stagetest.Run(context.Background(), t, preprocessing.Run, in(of(20, masked)))
		f := contract.AsError(err)
		if err == nil || f.Code != "NOTHING_TO_LEARN" || f.Class != contract.ClassBadInput || f.File != "x.csv" || f.Row != 22 || !strings.Contains(f.Message, message) || !strings.Contains(f.Hint, "label_column") {
			t.Errorf("%d masked: %v", masked, err)
		}
	}
	_, _, err := stagetest.Run(context.Background(), t, preprocessing.Run, in(of(0, 20)))
	if f := contract.AsError(err); f.Code != "NOTHING_TO_LEARN" || f.Row != 2 {
		t.Errorf("all masked: %v", err)
	}
}
