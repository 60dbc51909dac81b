package evaluation

import (
	"fmt"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/sample"
)

// makeRoom leaves out the samples behind whose prompt the longest label has no room in the
// model's context: not all labels could be compared there, and a prompt that is cut is not
// what the model was trained on. Preprocessing leaves them out by the same rule, so that none
// is here, unless another stage has made the samples.
func (m *material) makeRoom(emit *contract.Emitter) error {
	longest := 0
	for i, l := range m.labels {
		if len(l) > len(m.labels[longest]) {
			longest = i
		}
	}
	label, tokens, all := m.summary.Labels[longest], len(m.labels[longest]), len(m.samples)
	const named = 5
	var rows []string
	first := int64(0)
	samples, truth := []sample.Sample{}, []int{}
	for i, s := range m.samples {
		if s.PromptTokens+tokens <= m.shape.MaxPositions {
			samples, truth = append(samples, s), append(truth, m.truth[i])
			continue
		}
		if m.leftOut++; m.leftOut == 1 {
			first = s.Row
		}
		if len(rows) < named {
			rows = append(rows, fmt.Sprintf("row %d (a prompt of %d tokens)", s.Row, s.PromptTokens))
		}
	}
	m.samples, m.truth = samples, truth
	if m.leftOut == 0 {
		return nil
	}
	what := fmt.Sprintf("the longest label, %.40q of %d tokens, has no room in the model's context of %d behind %d of %d samples: %s",
		label, tokens, m.shape.MaxPositions, m.leftOut, all, strings.Join(rows, ", "))
	const hint = "shorten the label or the texts, or choose a model with a longer context"
	if len(m.samples) == 0 {
		return &contract.Error{Class: contract.ClassBadInput, Code: "LABEL_TOO_LONG", File: m.split, Row: first, Message: what, Hint: hint}
	}
	emit.Warn("NO_ROOM_FOR_LABEL", what+"; they are left out of all figures", map[string]any{"count": m.leftOut, "hint": hint})
	return nil
}
