package summary

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

// Options says how the summary is written; the zero value is 100 columns
// without colour.
type Options struct {
	Width int
	Style format.Style
}

// Print writes the summary of a job to w, 100 columns wide and without colour.
// artifacts is what Artifacts of the client returned; nil takes what the stages
// name.
func Print(w io.Writer, job api.JobDetail, artifacts []api.StageArtifact) error {
	return Write(w, job, artifacts, Options{})
}

// Write is Print with a choice of width and colour.
func Write(w io.Writer, job api.JobDetail, artifacts []api.StageArtifact, o Options) error {
	if o.Width <= 0 {
		o.Width = table.DefaultWidth
	}
	p := &printer{w: w, o: o}
	p.headline(job)
	p.data(job)
	p.metrics(job)
	p.answers(job)
	p.artifacts(job, artifacts)
	p.times(job)
	return p.err
}

// printer keeps the first error, so that the sections read straight on.
type printer struct {
	w   io.Writer
	o   Options
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) title(text string) { p.line("\n%s", p.o.Style.Bold(text)) }

// table prints a table indented by two spaces.
func (p *printer) table(t *table.Table) {
	if p.err != nil {
		return
	}
	var b strings.Builder
	if p.err = t.Write(&b, p.o.Width-2, p.o.Style); p.err != nil {
		return
	}
	for line := range strings.Lines(b.String()) {
		p.line("  %s", strings.TrimRight(line, "\n"))
	}
}

func (p *printer) headline(job api.JobDetail) {
	name := ""
	if job.Name != "" {
		name = " (" + format.Clean(job.Name) + ")"
	}
	took := ""
	if job.StartedAt != nil && job.FinishedAt != nil {
		took = " in " + format.Duration(job.FinishedAt.Sub(*job.StartedAt))
	}
	p.line("%s", format.Indent("", "Job "+job.ID+name+" "+p.o.Style.State(string(job.State))+took, p.o.Width))
	if job.Reason != "" {
		p.line("%s", format.Indent("", format.Clean(job.Reason), p.o.Width))
	}
}

func (p *printer) data(job api.JobDetail) {
	var d preprocessing
	if !find(job, "preprocessing", &d) || d.Rows == 0 {
		return
	}
	text := fmt.Sprintf("%s rows: %s to train, %s to validate, %s held out for the test", format.Count(d.Rows), format.Count(d.Train), format.Count(d.Validation), format.Count(d.Test))
	if s := counts(d.Dropped); s != "" {
		text += "; left out: " + s
	}
	if s := counts(d.Redacted); s != "" {
		text += "; redacted: " + s
	}
	p.line("%s", format.Indent("Data: ", text, p.o.Width))
}

// counts writes {"duplicate": 12, "missing": 3} as "12 duplicate, 3 missing".
func counts(of map[string]int64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if of[name] > 0 {
			parts = append(parts, format.Count(of[name])+" "+strings.ReplaceAll(format.Clean(name), "_", " "))
		}
	}
	return strings.Join(parts, ", ")
}

func (p *printer) answers(job api.JobDetail) {
	var e evaluation
	if !find(job, "evaluation", &e) || len(e.Answers) == 0 {
		return
	}
	p.title("Sample answers, before and after")
	for i, a := range e.Answers {
		if i > 0 {
			p.line("")
		}
		p.answer("input", a.Input, "")
		p.answer("expected", a.Target, "")
		p.answer("base", a.Base, p.mark(a.Base, a.Target))
		p.answer("tuned", a.Tuned, p.mark(a.Tuned, a.Target))
	}
}

func (p *printer) mark(got, want string) string {
	if strings.EqualFold(strings.TrimSpace(got), strings.TrimSpace(want)) {
		return p.o.Style.Good("  ✓")
	}
	return ""
}

// answer prints one line of a sample; a text is cut after three lines.
func (p *printer) answer(label, text, mark string) {
	const most = 3
	text = strings.TrimSpace(format.Clean(text))
	if text == "" {
		text = p.o.Style.Faint("(nothing)")
	}
	room := p.o.Width - 16
	lines := format.Wrap(text, room)
	if len(lines) > most {
		lines = lines[:most]
		lines[most-1] = format.Cut(lines[most-1], room-2) + " …"
	}
	for i, line := range lines {
		if i > 0 {
			label = ""
		}
		if i == len(lines)-1 {
			line += mark
		}
		p.line("  %s  %s", p.o.Style.Faint(format.Fit(label, 8)), line)
	}
}

// artifacts lists where the files lie, one line per folder.
func (p *printer) artifacts(job api.JobDetail, list []api.StageArtifact) {
	if list == nil {
		for _, s := range job.Stages {
			for _, a := range s.Artifacts {
				list = append(list, api.StageArtifact{Stage: s.Name, Artifact: a})
			}
		}
	}
	if len(list) == 0 {
		return
	}
	type folder struct {
		stage, place, what string
		files              int
		size               int64
	}
	var folders []*folder
	for _, a := range list {
		place := a.Bucket + "/" + path.Dir(a.Key) + "/"
		i := slices.IndexFunc(folders, func(f *folder) bool { return f.place == place && f.stage == a.Stage })
		if i < 0 {
			folders = append(folders, &folder{stage: a.Stage, place: place, what: path.Base(a.Key)})
			i = len(folders) - 1
		}
		folders[i].files++
		folders[i].size += a.Size
	}
	p.title("Artifacts")
	t := table.Table{Columns: []table.Column{{Title: "STAGE", Shrink: 8}, {Title: "FILES", Right: true}, {Title: "SIZE", Right: true}, {Title: "PLACE IN THE OBJECT STORE", Shrink: 30, Middle: true}}}
	for _, f := range folders {
		place := f.place
		if f.files == 1 {
			place += f.what
		}
		t.Row(f.stage, format.Count(int64(f.files)), format.Bytes(f.size), place)
	}
	p.table(&t)
	p.line("  get one:  tunemesh artifact get %s NAME", job.ID)
}

func (p *printer) times(job api.JobDetail) {
	if len(job.Stages) == 0 {
		return
	}
	longest := time.Duration(1)
	for _, s := range job.Stages {
		longest = max(longest, took(s))
	}
	p.title("Time")
	width := 0
	for _, s := range job.Stages {
		width = max(width, format.Width(s.Name))
	}
	for _, s := range job.Stages {
		text := format.Duration(took(s))
		if s.StartedAt == nil || s.FinishedAt == nil {
			text = "-"
		}
		line := fmt.Sprintf("  %s  %s  %s", format.Fit(s.Name, width), format.FitRight(text, 7), strings.Repeat("█", int(20*took(s)/longest)))
		if s.State != api.StageSucceeded {
			line += "  " + p.o.Style.State(string(s.State))
		}
		if s.Attempt > 1 {
			line += fmt.Sprintf("  %d attempts", s.Attempt)
		}
		p.line("%s", strings.TrimRight(line, " "))
	}
}

func took(s api.Stage) time.Duration {
	if s.StartedAt == nil || s.FinishedAt == nil {
		return 0
	}
	return max(s.FinishedAt.Sub(*s.StartedAt), 0)
}

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
	{key: "rouge_l", title: "ROUGE-L", percent: true},
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
