package validation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/records"
	"github.com/tunemesh/tunemesh/trainer/table"
)

// imbalance is how much larger the largest class may be than the smallest before
// a person should know.
const imbalance = 10

// few is the number of usable rows below which a model can learn its data by heart
// and little else. It is a warning only: trying the way with three rows is fine.
const few = 10

// rare is the size below which a class can hardly be learnt, tested and validated.
const rare = 5

func (c *counter) judge(p dataset.Profile) {
	r := &c.report
	r.Length, r.PII = c.length.lengths(), c.pii.Map()
	input, target := p.Roles.Input.Column, p.Roles.Target.Column
	if m := p.Roles.Messages.Column; m != "" {
		input, target = m, m
	} else if c.whole {
		input = target
	}
	c.missing(input, target)
	if c.config.Task == "classification" {
		c.judgeClasses(target)
	}
	c.judgeRows(input, target)
	if n := r.ExactDuplicates + r.NormalizedDuplicates; n > 0 {
		keep := "preprocessing keeps the first of each"
		if c.config.Preprocessing.KeepDuplicates {
			keep = "preprocessing keeps them, as the config says"
		}
		c.find(Finding{Code: CodeDuplicates, Column: input, Count: n, Rows: c.duplicates, Message: fmt.Sprintf("%d rows (%s) repeat an earlier one, %d of them in another case or spacing; %s", n, percent(n, r.Rows), r.NormalizedDuplicates, keep)})
	}
	if n := r.ConflictingLabels; n > 0 {
		c.find(Finding{Code: CodeConflicts, Column: target, Count: n, Rows: c.conflicts, Message: fmt.Sprintf("%d rows repeat an earlier text with another label", n), Hint: "decide which label is right"})
	}
	c.judgeTexts(input)
}

// judgeRows refuses fewer usable rows than the config asks for, and warns of few.
func (c *counter) judgeRows(input, target string) {
	r, least := &c.report, c.config.Validation.MinRows
	columns := fmt.Sprintf("%q", input)
	if target != input {
		columns += fmt.Sprintf(" and %q", target)
	}
	usable := fmt.Sprintf("%d rows are usable (with %s, duplicates left out) of %d", r.Usable, columns, r.Rows)
	switch {
	case r.Usable < least && least > 1:
		c.find(Finding{Code: CodeFewRows, Error: true, Column: input, Count: r.Usable, Message: fmt.Sprintf("%s; at least %d are needed", usable, least), Hint: "add data, or lower validation.min_rows"})
	case r.Usable < least:
		c.find(Finding{Code: CodeFewRows, Error: true, Column: input, Count: r.Usable, Message: usable + "; at least 1 is needed", Hint: "add data"})
	case r.Usable < few:
		c.find(Finding{Code: CodeFewRows, Column: input, Count: r.Usable, Message: usable + ": enough to try the way, not to learn from", Hint: "add data; a hundred rows for each class are a good start"})
	}
}

func (c *counter) find(f Finding) { c.report.Findings = append(c.report.Findings, f) }

func (c *counter) missing(input, target string) {
	r := &c.report
	for _, m := range []struct {
		column string
		count  int64
		rows   examples
	}{{input, r.MissingInput, c.noInput}, {target, r.MissingTarget, c.noTarget}} {
		if m.count == 0 || m.column == "" {
			continue
		}
		f := Finding{Code: CodeMissing, Column: m.column, Count: m.count, Rows: m.rows, Message: fmt.Sprintf("%s missing values in column '%s': %d of %d rows", percent(m.count, r.Rows), m.column, m.count, r.Rows)}
		if float64(m.count) > c.config.Validation.MaxMissingFraction*float64(r.Rows) {
			f.Error = true
			f.Message += fmt.Sprintf(", more than validation.max_missing_fraction allows (%g)", c.config.Validation.MaxMissingFraction)
			f.Hint = "fill them in, delete the rows, name another column, or raise validation.max_missing_fraction"
		} else {
			f.Message += "; the rows are left out"
		}
		c.find(f)
		if input == target {
			return
		}
	}
}

func (c *counter) tooManyClasses(row int64) error {
	return &contract.Error{
		Class: contract.ClassBadInput, Code: CodeManyClasses, Row: row,
		Message: fmt.Sprintf("up to here there are more than %d classes (validation.max_classes)", c.config.Validation.MaxClasses),
		Hint:    "is it the column of labels? Name it as label_column, or choose another task, or raise validation.max_classes",
	}
}

func (c *counter) judgeClasses(target string) {
	classes := slices.Clone(c.classes.All)
	slices.SortFunc(classes, func(a, b records.Class) int { return cmp.Or(cmp.Compare(b.Rows, a.Rows), cmp.Compare(a.Key, b.Key)) })
	var variants, rareOnes []string
	var variantRows, rareRows int64
	var firstRare examples
	for _, k := range classes {
		name, others := k.Name(), k.Variants()
		c.report.Classes = append(c.report.Classes, ClassReport{Label: name, Rows: k.Rows, Variants: others[:min(len(others), 10)]})
		if len(others) > 0 {
			variants = append(variants, fmt.Sprintf("%s also as %s", table.Quoted(name), quoted(others)))
			variantRows += k.Rows - k.Spellings[name]
		}
		if k.Rows < rare {
			rareOnes = append(rareOnes, fmt.Sprintf("%s (%d)", table.Quoted(name), k.Rows))
			rareRows += k.Rows
			firstRare.add(k.FirstRow)
		}
	}
	if len(classes) == 1 {
		c.find(Finding{
			Code: CodeOneClass, Error: true, Column: target, Count: classes[0].Rows, Rows: []int64{c.firstTarget},
			Message: fmt.Sprintf("every row has the same label, %s: there is nothing to tell apart", table.Quoted(classes[0].Name())),
			Hint:    "is it the column of labels? Name it as label_column; or add rows of other classes",
		})
		return
	}
	if len(variants) > 0 {
		c.find(Finding{Code: CodeVariants, Column: target, Count: variantRows, Message: fmt.Sprintf("%d rows spell their label otherwise than most: %s; preprocessing joins them", variantRows, table.List(variants))})
	}
	if len(rareOnes) > 0 {
		c.find(Finding{Code: CodeRareClass, Column: target, Count: rareRows, Rows: firstRare, Message: fmt.Sprintf("classes with fewer than %d rows: %s", rare, table.List(rareOnes)), Hint: "add rows or join classes"})
	}
	if n := len(classes); n > 1 && classes[0].Rows > imbalance*classes[n-1].Rows {
		c.find(Finding{Code: CodeImbalance, Column: target, Count: classes[0].Rows, Message: fmt.Sprintf("the largest class %s has %d rows, the smallest %s %d", table.Quoted(classes[0].Name()), classes[0].Rows, table.Quoted(classes[n-1].Name()), classes[n-1].Rows), Hint: "add rows of the small classes; accuracy alone will mislead, look at F1"})
	}
}

func (c *counter) judgeTexts(input string) {
	r := &c.report
	if c.shortRows > 0 {
		c.find(Finding{Code: CodeShort, Column: input, Count: c.shortRows, Rows: c.short, Message: fmt.Sprintf("%d texts have fewer than %d characters", c.shortRows, shortLength)})
	}
	if c.longRows > 0 {
		c.find(Finding{Code: CodeLong, Column: input, Count: c.longRows, Rows: c.long, Message: fmt.Sprintf("%d texts have more than %d characters; those that do not fit into the model's context are left out", c.longRows, longLength)})
	}
	if r.Untidy > 0 {
		c.find(Finding{Code: CodeUntidy, Column: input, Count: r.Untidy, Rows: c.untidy, Message: fmt.Sprintf("%d rows have stray white space or invisible characters; preprocessing removes them", r.Untidy)})
	}
	if r.PIIRows > 0 {
		what := map[string]string{"redact": "preprocessing replaces it", "warn": "it goes into the training data, as the config says", "keep": "it goes into the training data, as the config says"}[c.config.Preprocessing.PII]
		var kinds []string
		for kind, n := range r.PII {
			kinds = append(kinds, fmt.Sprintf("%d %s", n, kind))
		}
		slices.Sort(kinds)
		c.find(Finding{Code: CodePII, Column: input, Count: r.PIIRows, Rows: c.withPII, Message: fmt.Sprintf("%d rows hold personal data (%s); %s", r.PIIRows, strings.Join(kinds, ", "), what), Hint: "preprocessing.pii is redact, warn or keep; names of persons are not looked for"})
	}
}

func percent(n, of int64) string { return fmt.Sprintf("%.3g%%", 100*float64(n)/float64(max(of, 1))) }

func quoted(names []string) string {
	var list []string
	for _, n := range names[:min(len(names), 5)] {
		list = append(list, table.Quoted(n))
	}
	if len(names) > 5 {
		return strings.Join(list, ", ") + fmt.Sprintf(" and %d more", len(names)-5)
	}
	return strings.Join(list, ", ")
}
