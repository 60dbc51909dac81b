package summary

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

// metric says how a number of the evaluation is shown.
type metric struct {
	key, title string
	percent    bool
}

// metrics in the order in which they are shown; others follow by name.
var metrics = []metric{
	{key: "accuracy", title: "accuracy", percent: true},
	{key: "macro_f1", title: "macro F1", percent: true},
	{key: "micro_f1", title: "micro F1", percent: true},
	{key: "weighted_f1", title: "weighted F1", percent: true},
	{key: "exact_match", title: "exact match", percent: true},
	{key: "token_f1", title: "token F1", percent: true},
	{key: "rouge_1", title: "ROUGE-1", percent: true},
	{key: "rouge_2", title: "ROUGE-2", percent: true},
	{key: "rouge_l", title: "ROUGE-L", percent: true},
	{key: "rouge_lsum", title: "ROUGE-Lsum", percent: true},
	{key: "bleu", title: "BLEU"},
	{key: "sentence_bleu", title: "BLEU of sentences"},
	{key: "loss", title: "loss"},
	{key: "perplexity", title: "perplexity"},
}

// known returns how the numbers of both models are shown, in order.
func known(base, tuned scores) []metric {
	var out []metric
	for _, m := range metrics {
		if _, ok := tuned[m.key]; ok {
			out = append(out, m)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(tuned), cmp.Compare[string]) {
		_, both := base[key]
		if both && !slices.ContainsFunc(metrics, func(m metric) bool { return m.key == key }) {
			out = append(out, named(key))
		}
	}
	return out
}

// named says how the number of a key is shown, whether it is known or not.
func named(key string) metric {
	if i := slices.IndexFunc(metrics, func(m metric) bool { return m.key == key }); i >= 0 {
		return metrics[i]
	}
	return metric{key: key, title: strings.ReplaceAll(format.Clean(key), "_", " ")}
}

func (p *printer) metrics(job api.JobDetail) {
	var e evaluation
	if !find(job, "evaluation", &e) || len(e.Tuned) == 0 {
		return
	}
	p.title(fmt.Sprintf("Base and tuned model on %s held-out samples", format.Count(e.TestSamples)))
	t := table.Table{Columns: []table.Column{{Title: "METRIC", Shrink: 8}, {Title: "BASE", Right: true}, {Title: "TUNED", Right: true}, {Title: "CHANGE", Right: true}, {Title: "95 % INTERVAL", Right: true}, {Title: ""}}}
	for _, m := range known(e.Base, e.Tuned) {
		tuned := e.Tuned[m.key]
		base, ok := e.Base[m.key]
		if !ok {
			t.Row(m.title, "-", m.value(tuned), "-", "-", " ")
			continue
		}
		interval, verdict := "-", " "
		if c, ok := e.compared(m.key); ok {
			interval, verdict = m.interval(c), c.verdict()
		}
		t.Row(m.title, m.value(base), m.value(tuned), m.change(tuned-base), interval, verdict)
	}
	p.table(&t)
	p.verdict(e)
}

// verdict is the sentence on the figure that decides. It says no more than the
// interval does.
func (p *printer) verdict(e evaluation) {
	say := func(style func(string) string, text string) {
		for line := range strings.Lines(format.Indent("  ", text, p.o.Width)) {
			p.line("  %s", style(strings.TrimSpace(line)))
		}
	}
	if len(e.Comparisons) == 0 {
		if e.Improved == nil {
			return
		}
		words := "The tuned model has the better figures"
		if !*e.Improved {
			words = "The tuned model does not have the better figures"
		}
		say(p.o.Style.Bold, words+"; there is no interval that tells whether it is chance.")
		return
	}
	c := e.Comparisons[0]
	m := named(c.Metric)
	change := fmt.Sprintf("%s %s", m.title, m.change(c.Difference))
	samples := format.Plural(c.Samples, "sample")
	switch {
	case !c.Significant:
		say(p.o.Style.Bold, fmt.Sprintf("No difference that %s can show: %s, 95 %% interval %s.", samples, change, m.interval(c)))
	case c.better():
		say(p.o.Style.Good, fmt.Sprintf("The tuned model beats the base model: %s, 95 %% interval %s over %s.", change, m.interval(c), samples))
	default:
		say(p.o.Style.Bad, fmt.Sprintf("The tuned model does not beat the base model, it is worse: %s, 95 %% interval %s over %s.", change, m.interval(c), samples))
	}
}

func (m metric) value(v float64) string {
	if m.percent {
		return format.Percent(v)
	}
	return format.Measure(v)
}

func (m metric) change(by float64) string {
	if m.percent {
		return m.signed(by) + " points"
	}
	return m.signed(by)
}

// interval is where the difference lies, in the unit of change.
func (m metric) interval(c comparison) string {
	return m.signed(c.Interval[0]) + " to " + m.signed(c.Interval[1])
}

func (m metric) signed(v float64) string {
	sign := ""
	if v > 0 {
		sign = "+"
	}
	if m.percent {
		return fmt.Sprintf("%s%.1f", sign, 100*v)
	}
	return sign + format.Measure(v)
}
