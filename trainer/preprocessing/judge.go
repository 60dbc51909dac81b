package preprocessing

import (
	"fmt"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/table"
	"github.com/tunemesh/tunemesh/trainer/template"
)

// mostLost is the share of the samples that may be left out, because their answer would be cut
// off or nothing of them is learnt, before that is an error: a model trained on the rest has
// seen the short ones only.
const mostLost = 0.1

// Codes that are an error or a warning, by how many rows they are of.
const (
	codeEmptySplit     = "EMPTY_SPLIT" // an error for the training split
	codeNothingToLearn = "NOTHING_TO_LEARN"
)

// judge says what was dropped and refuses what is no use, before anything is trained.
func (w *writer) judge(s *survey, emit *contract.Emitter) error {
	sum, fault := &w.summary, w.refusal(s)
	if l := &w.left[tooLong]; l.count > 0 {
		emit.Warn("SAMPLES_TOO_LONG", fmt.Sprintf("%d samples are longer than %d tokens and left out, so that no answer is cut off: %s", l.count, sum.TokenLimit, l.rows()), map[string]any{"count": l.count, "hint": "shorten the texts, " + w.longer(l.most)})
	}
	if l := &w.left[noRoom]; l.count > 0 && fault == nil {
		emit.Warn("NO_ROOM_FOR_LABEL", fmt.Sprintf("%d samples leave no room in the model's context of %d tokens for the longest label, %s of %d tokens, and are left out: %s", l.count, w.context(), table.Quoted(s.names[w.labels.longest()]), w.labels.room(), l.rows()),
			map[string]any{"count": l.count, "hint": "shorten the label or the texts, " + w.longer(l.most+w.labels.room())})
	}
	if l := &w.left[noLoss]; l.count > 0 {
		emit.Warn(codeNothingToLearn, fmt.Sprintf("%d samples hold no token to learn and are left out: %s", l.count, l.rows()), map[string]any{"count": l.count})
	}
	if w.defused > 0 {
		emit.Warn("SPECIAL_TOKENS_IN_TEXT", fmt.Sprintf("%d rows hold special tokens of the model, such as those that end a turn; they were broken up", w.defused), map[string]any{"count": w.defused})
	}
	if m := w.prompt.model.template; m != nil && !m.Ends() {
		emit.Warn("TEMPLATE_WITHOUT_END", "the model's chat template writes nothing behind an answer: the tuned model will not learn where to end", map[string]any{"hint": "name a builtin template in the job's config: " + strings.Join(template.Names(), ", ")})
	}
	if fault != nil {
		fault.File = s.file
		return fault
	}
	// Training goes without a validation loss, and evaluation takes rows that
	// training has seen and says so: what a file of few rows allows.
	if sum.Validation == 0 {
		emit.Warn(codeEmptySplit, "no sample is left for validation, so training shows no validation loss: "+w.losses(), map[string]any{"split": "validation", "hint": "add data, or raise preprocessing.validation_fraction"})
	}
	if sum.Test == 0 {
		emit.Warn(codeEmptySplit, "no sample is left for the test, so the evaluation has no held-out rows: "+w.losses(), map[string]any{"split": "test", "hint": "add data, or raise preprocessing.test_fraction"})
	}
	var gone []string
	for class, name := range s.names {
		if s.config.Task == "classification" && w.byClass[class] == 0 {
			gone = append(gone, table.Quoted(name))
		}
	}
	if len(gone) > 0 {
		emit.Warn("CLASS_WITHOUT_SAMPLES", "no sample to train on is left of: "+table.List(gone), nil)
	}
	emit.Info(fmt.Sprintf("%d samples to train on, %d for validation, %d for the test; %d tokens, the longest sample has %d", sum.Train, sum.Validation, sum.Test, sum.TotalTokens, sum.MaxTokens),
		map[string]any{"dropped": sum.Dropped, "redacted": sum.Redacted, "template": sum.Template})
	return nil
}

// refusal is why the samples are no use, nil if they are. The nearest cause comes first: a
// label that does not fit and rows without an answer empty a split too.
func (w *writer) refusal(s *survey) *contract.Error {
	if fault := w.labelFault(s); fault != nil {
		return fault
	}
	sum, long, none := &w.summary, &w.left[tooLong], &w.left[noLoss]
	fault := &contract.Error{Class: contract.ClassBadInput}
	switch {
	case none.count > 0 && float64(none.count) > mostLost*float64(w.all()):
		fault.Code, fault.Row = codeNothingToLearn, none.first[0].row
		fault.Message = fmt.Sprintf("%d of %d samples hold no token to learn: %s", none.count, w.all(), none.rows())
		fault.Hint = "an answer has to stand in the rows, and the template has to write it: name its column as label_column, let each chat end with the assistant, or name another template"
	case sum.Train == 0:
		fault.Code, fault.Message = codeEmptySplit, "no sample is left for training: "+w.losses()
		fault.Hint = "add data, or lower preprocessing.test_fraction and preprocessing.validation_fraction"
		if long.count > 0 {
			fault.Row, fault.Field = long.first[0].row, "preprocessing.max_length"
			fault.Hint = "shorten the texts, " + w.shorterInstruction(s) + w.longer(long.least)
		}
	case float64(long.count) > mostLost*float64(w.all()):
		fault.Code, fault.Row, fault.Field = "ANSWERS_CUT_OFF", long.first[0].row, "preprocessing.max_length"
		fault.Message = fmt.Sprintf("%d of %d samples are longer than %d tokens, so that their answers would be cut off: %s", long.count, w.all(), sum.TokenLimit, long.rows())
		fault.Hint = "shorten the texts, " + w.shorterInstruction(s) + w.longer(long.most)
	default:
		return nil
	}
	return fault
}

// kept is how many samples are in the splits.
func (w *writer) kept() int64 { return w.summary.Train + w.summary.Validation + w.summary.Test }

// all is how many samples there are with those that are left out.
func (w *writer) all() int64 {
	n := w.kept()
	for _, l := range w.left {
		n += l.count
	}
	return n
}

// context is how many tokens the model's context holds; 0: the model does not say.
func (w *writer) context() int { return w.prompt.model.context }

// losses says where the rows went.
func (w *writer) losses() string {
	d, parts := w.summary.Dropped, []string{}
	for _, p := range []struct {
		count int64
		words string
	}{
		{d[sample.DroppedMissing], "lack a value"}, {d[sample.DroppedDuplicate], "are duplicates"},
		{w.left[tooLong].count, fmt.Sprintf("are longer than %d tokens", w.summary.TokenLimit)},
		{w.left[noRoom].count, "leave no room for the longest label"}, {w.left[noLoss].count, "hold nothing to learn"},
	} {
		if p.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.count, p.words))
		}
	}
	if len(parts) == 0 {
		return fmt.Sprintf("there are %d rows", w.summary.Rows)
	}
	return fmt.Sprintf("of %d rows ", w.summary.Rows) + strings.Join(parts, ", ")
}

func (l *leftOut) rows() string {
	out := make([]string, len(l.first))
	for i, d := range l.first {
		out[i] = fmt.Sprintf("row %d (%d tokens)", d.row, d.tokens)
	}
	return strings.Join(out, ", ")
}

// shorterInstruction is the advice against an instruction that takes half of what there is:
// the default one names all labels.
func (w *writer) shorterInstruction(s *survey) string {
	if s.config.Instruction != "" || len(w.labels) == 0 {
		return ""
	}
	n := len(w.prompt.model.encoder.Encode(w.prompt.effective(), false))
	if 2*n < w.summary.TokenLimit {
		return ""
	}
	return fmt.Sprintf("give a shorter instruction than the default one, which names all labels in %d tokens, ", n)
}

// longer says how need tokens could be had.
func (w *writer) longer(need int) string {
	switch {
	case w.context() == 0 || need <= w.context():
		return fmt.Sprintf("or raise preprocessing.max_length to %d", need)
	case w.summary.TokenLimit < w.context():
		return fmt.Sprintf("raise preprocessing.max_length, at most to the %d tokens of the model's context, or choose a model with a longer one", w.context())
	}
	return fmt.Sprintf("or choose a model whose context holds %d tokens; this one's holds %d", need, w.context())
}
