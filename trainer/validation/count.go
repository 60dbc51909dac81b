package validation

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/tunemesh/tunemesh/trainer/clean"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/pii"
	"github.com/tunemesh/tunemesh/trainer/progress"
	"github.com/tunemesh/tunemesh/trainer/records"
)

// counter goes over the records once.
type counter struct {
	config  contract.Config
	whole   bool // the texts are the target, and there is no input
	report  Report
	classes records.Classes
	seen    map[clean.Sum]first
	length  histogram
	pii     pii.Counts

	noInput, noTarget, duplicates, conflicts, untidy, short, long, withPII examples
	shortRows, longRows                                                    int64
	firstTarget                                                            int64 // row of the first target
}

// first is what is kept of a row to know its duplicates by, beside the key. A half
// of the raw hash is enough to tell an exact duplicate from another.
type first struct {
	raw   uint32
	class int32
}

// Texts below shortLength characters say next to nothing; above longLength most
// of them are cut off or dropped by any small model's context.
const (
	shortLength = 5
	longLength  = 20_000
)

func (c *counter) run(ctx context.Context, s *records.Source, emit *contract.Emitter) (seconds float64, err error) {
	classification := c.config.Task == "classification"
	report := progress.New(emit, "rows", s.Profile.Rows, time.Now)
	err = records.Map(ctx, s, func(batch []records.Record) ([]records.Record, error) { return batch, nil }, func(batch []records.Record) error {
		for i := range batch {
			if err := c.add(&batch[i], classification); err != nil {
				return err
			}
		}
		report.At(c.report.Rows)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return report.End(c.report.Rows), nil
}

// add counts one record. The one error is that of too many classes, which would
// need more memory with every row.
func (c *counter) add(r *records.Record, classification bool) error {
	c.report.Rows++
	if r.Untidy {
		c.report.Untidy++
		c.untidy.add(r.Row)
	}
	if r.PII.Total() > 0 {
		c.pii.Add(r.PII)
		c.report.PIIRows++
		c.withPII.add(r.Row)
	}
	if r.NoInput {
		c.report.MissingInput++
		c.noInput.add(r.Row)
	}
	class := 0
	if r.NoTarget {
		c.report.MissingTarget++
		c.noTarget.add(r.Row)
	} else {
		if c.firstTarget == 0 {
			c.firstTarget = r.Row
		}
		if classification {
			class = c.classes.Of(r.Target, r.Row)
			if len(c.classes.All) > c.config.Validation.MaxClasses {
				return c.tooManyClasses(r.Row)
			}
		}
	}
	if r.NoInput || r.NoTarget {
		return nil
	}
	text := r.Input
	if c.whole {
		text = r.Target
	}
	length := int64(utf8.RuneCountInString(text))
	c.length.add(length)
	if length < shortLength {
		c.shortRows++
		c.short.add(r.Row)
	} else if length > longLength {
		c.longRows++
		c.long.add(r.Row)
	}
	before, again := c.seen[r.Key]
	switch {
	case !again:
		c.seen[r.Key] = first{uint32(r.Raw), int32(class)}
		c.report.Usable++
		return nil
	case before.raw == uint32(r.Raw):
		c.report.ExactDuplicates++
	default:
		c.report.NormalizedDuplicates++
	}
	c.duplicates.add(r.Row)
	if before.class != int32(class) {
		c.report.ConflictingLabels++
		c.conflicts.add(r.Row)
	}
	return nil
}
