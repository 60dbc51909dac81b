package preprocessing

import (
	"fmt"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/records"
	"github.com/tunemesh/tunemesh/trainer/table"
	"github.com/tunemesh/tunemesh/trainer/template"
)

// labelTokens says how many tokens each label of a classification takes, by class, with
// what ends the turn. Other tasks have no labels.
//
// Evaluation scores every label behind every text, and whoever asks the tuned model does
// not know the answer: a text fits into the model's context only if the longest label has
// room behind it, whichever is its own.
type labelTokens []int

// countLabels puts each label into the template, as evaluation does.
func countLabels(s *survey, p *prompter) (labelTokens, error) {
	if s.config.Task != "classification" {
		return nil, nil
	}
	out := make(labelTokens, len(s.names))
	for class, name := range s.names {
		segments, err := p.segments(&records.Record{Input: "x"}, name)
		if err != nil {
			return nil, badExample(s.file, s.classes.All[class].FirstRow, fmt.Errorf("the label %s: %w", table.Quoted(name), err))
		}
		_, learnt := template.Tokens(p.model.encoder, segments)
		for _, is := range learnt {
			if is {
				out[class]++
			}
		}
	}
	return out, nil
}

// longest is the class with the longest label, -1 without labels.
func (l labelTokens) longest() int {
	longest := -1
	for class, n := range l {
		if longest < 0 || n > l[longest] {
			longest = class
		}
	}
	return longest
}

// room is how many tokens the longest label takes.
func (l labelTokens) room() int {
	if class := l.longest(); class >= 0 {
		return l[class]
	}
	return 0
}

// labelFault refuses a label that fits behind no text, or behind too few: evaluation could
// not compare it with the others, and would find that out after the training.
func (w *writer) labelFault(s *survey) *contract.Error {
	longest, limit := w.labels.longest(), w.summary.TokenLimit
	if longest < 0 || limit == 0 {
		return nil
	}
	tokens, class := w.labels[longest], s.classes.All[longest]
	fault := &contract.Error{Class: contract.ClassBadInput, Code: "LABEL_TOO_LONG", Row: class.FirstRow, Column: w.summary.LabelColumn}
	rows := "1 row"
	if class.Rows > 1 {
		rows = fmt.Sprintf("%d rows", class.Rows)
	}
	label := fmt.Sprintf("the label %s (%s) takes %d tokens", table.Quoted(s.names[longest]), rows, tokens)
	// Where no text fits, a label is at fault only if it is too long by itself.
	prompt, behind := 0, ""
	if w.kept()+w.left[noRoom].count > 0 {
		prompt, behind = w.shortest, fmt.Sprintf(" behind the shortest prompt (%d tokens)", w.shortest)
	}
	switch {
	case prompt+tokens > limit:
		fault.Message = fmt.Sprintf("%s, which do not fit into the limit of %d%s%s", label, limit, behind, w.othersBeside(longest, limit-prompt))
		fault.Hint = "shorten it in its rows, leave them out, " + w.shorterInstruction(s) + w.longer(prompt+tokens)
	case float64(w.left[noRoom].count) > mostLost*float64(w.all()):
		fault.Message = fmt.Sprintf("%s, which leave %d of the model's context of %d to the prompts, and of %d samples %d need more: %s", label, w.context()-tokens, w.context(), w.all(), w.left[noRoom].count, w.left[noRoom].rows())
		fault.Hint = "shorten it in its rows, leave them out, shorten the texts, " + w.shorterInstruction(s) + w.longer(w.left[noRoom].most+tokens)
	default:
		return nil
	}
	return fault
}

// othersBeside says how many labels but one do not fit into room tokens either.
func (w *writer) othersBeside(one, room int) string {
	n := 0
	for class, tokens := range w.labels {
		if class != one && tokens > room {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d more labels are too long", n)
}
