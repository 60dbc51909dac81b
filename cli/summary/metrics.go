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
	lower      bool // better when lower
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
	{key: "loss", title: "loss", lower: true},
	{key: "perplexity", title: "perplexity", lower: true},
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
			out = append(out, metric{key: key, title: strings.ReplaceAll(format.Clean(key), "_", " ")})
		}
	}
	return out
}

func (p *printer) metrics(job api.JobDetail) {
	var e evaluation
	if !find(job, "evaluation", &e) || len(e.Tuned) == 0 {
		return
	}
	p.title(fmt.Sprintf("Base and tuned model on %s held-out samples", format.Count(e.TestSamples)))
	t := table.Table{Columns: []table.Column{{Title: "METRIC", Shrink: 8}, {Title: "BASE", Right: true}, {Title: "TUNED", Right: true}, {Title: "CHANGE", Right: true}, {Title: ""}}}
	for _, m := range known(e.Base, e.Tuned) {
		tuned := e.Tuned[m.key]
		base, ok := e.Base[m.key]
		if !ok {
			t.Row(m.title, "-", m.value(tuned), "-", " ")
			continue
		}
		t.Row(m.title, m.value(base), m.value(tuned), m.change(tuned-base), m.verdict(tuned-base))
	}
	p.table(&t)
	if e.Improved != nil {
		verdict := p.o.Style.Good("The tuned model beats the base model.")
		if !*e.Improved {
			verdict = p.o.Style.Bad("The tuned model does not beat the base model.")
		}
		p.line("  %s", verdict)
	}
}

func (m metric) value(v float64) string {
	if m.percent {
		return format.Percent(v)
	}
	return format.Measure(v)
}

func (m metric) change(by float64) string {
	sign := ""
	if by > 0 {
		sign = "+"
	}
	if m.percent {
		return fmt.Sprintf("%s%.1f points", sign, 100*by)
	}
	return sign + format.Measure(by)
}

// verdict says better or worse of the metrics whose direction is known.
func (m metric) verdict(by float64) string {
	if by == 0 || !slices.ContainsFunc(metrics, func(k metric) bool { return k.key == m.key }) {
		return " "
	}
	if (by > 0) != m.lower {
		return "better"
	}
	return "worse"
}
