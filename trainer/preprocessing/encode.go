package preprocessing

import (
	"fmt"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/records"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/template"
)

// encoder turns batches of records into lines of the splits. It is safe for
// concurrent use.
type encoder struct {
	survey *survey
	model  *baseModel
	prompt *prompter
	room   int // tokens of the longest label; 0: there are none
	limit  int // most tokens of a sample; 0: none
}

// encoded is one batch, ready to be written.
type encoded struct {
	rows    int64 // all of the batch
	lines   [splits][]byte
	samples [splits]int64
	byClass map[int]int64 // samples to train on, by class

	tokens, loss, defused int64
	longest               int
	shortest              int // prompt; 0: none
	left                  [reasons][]dropOut
}

// reason is why a sample is left out.
type reason uint8

const (
	tooLong reason = iota // it has more tokens than a sample may have
	noLoss                // nothing of it is learnt
	noRoom                // the model's context does not hold its prompt and the longest label
	fits
)

// reasons is the number of reasons that leave a sample out.
const reasons = 3

// dropOut is a row that no split can hold.
type dropOut struct {
	row    int64
	tokens int // of the sample; of its prompt for noRoom
}

// judge says whether a sample can be trained on and evaluated with.
func (e *encoder) judge(s *sample.Sample) (reason, dropOut) {
	switch {
	case e.limit > 0 && len(s.Tokens) > e.limit:
		return tooLong, dropOut{s.Row, len(s.Tokens)}
	case s.LossTokens() == 0:
		return noLoss, dropOut{s.Row, len(s.Tokens)}
	case e.room > 0 && e.model.context > 0 && s.PromptTokens+e.room > e.model.context:
		return noRoom, dropOut{s.Row, s.PromptTokens}
	}
	return fits, dropOut{}
}

func (e *encoder) batch(batch []records.Record) (*encoded, error) {
	out := &encoded{rows: int64(len(batch)), byClass: map[int]int64{}}
	var s sample.Sample
	var mask []bool
	for i := range batch {
		r := &batch[i]
		where, class := e.survey.fate(r)
		if where == dropped {
			continue
		}
		if e.defuse(r) {
			out.defused++
		}
		s.Row, s.Input, s.Target = r.Row, r.Input, r.Target
		if e.survey.config.Task == "classification" {
			s.Target = e.survey.names[class]
		}
		if err := e.encode(r, &s, &mask); err != nil {
			return nil, badExample(e.survey.file, r.Row, err)
		}
		if n := s.PromptTokens; len(s.Loss) > 0 && (out.shortest == 0 || n < out.shortest) {
			out.shortest = n
		}
		if why, drop := e.judge(&s); why != fits {
			out.left[why] = append(out.left[why], drop)
			continue
		}
		out.lines[where] = sample.Append(out.lines[where], &s)
		out.samples[where]++
		out.tokens += int64(len(s.Tokens))
		out.loss += int64(s.LossTokens())
		out.longest = max(out.longest, len(s.Tokens))
		if where == train {
			out.byClass[class]++
		}
	}
	return out, nil
}

func badExample(file string, row int64, err error) *contract.Error {
	return &contract.Error{Class: contract.ClassBadInput, Code: "BAD_EXAMPLE", File: file, Row: row, Message: err.Error()}
}

// defuse is the model's, on every text of a record.
func (e *encoder) defuse(r *records.Record) bool {
	found := false
	fix := func(text *string) {
		fixed, changed := e.model.defuse(*text)
		if changed {
			*text, found = fixed, true
		}
	}
	fix(&r.Input)
	fix(&r.Target)
	fix(&r.Context)
	for i := range r.Messages {
		fix(&r.Messages[i].Content)
	}
	return found
}

// encode fills in tokens and what of them is learnt, into the slices that s has. mask is
// for the time between.
func (e *encoder) encode(r *records.Record, s *sample.Sample, mask *[]bool) error {
	segments, err := e.prompt.segments(r, s.Target)
	if err != nil {
		return fmt.Errorf("put into the template: %w", err)
	}
	s.Tokens, *mask = template.AppendTokens(s.Tokens[:0], (*mask)[:0], e.model.encoder, segments)
	s.Loss = ranges(s.Loss[:0], *mask)
	s.PromptTokens = len(s.Tokens)
	if n := len(s.Loss); n > 0 {
		s.PromptTokens = s.Loss[n-1][0] // the last answer, of a conversation
	}
	return nil
}

// ranges turns a mask into half-open ranges.
func ranges(out [][2]int, mask []bool) [][2]int {
	for i := 0; i < len(mask); i++ {
		if !mask[i] {
			continue
		}
		from := i
		for i < len(mask) && mask[i] {
			i++
		}
		out = append(out, [2]int{from, i})
	}
	return out
}
