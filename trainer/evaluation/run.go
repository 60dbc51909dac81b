package evaluation

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/progress"
	"github.com/tunemesh/tunemesh/trainer/tuned"
)

// Run is the stage.
func Run(ctx context.Context, in contract.Input, emit *contract.Emitter) (contract.Result, error) {
	c, err := dataset.Config(in)
	if err != nil {
		return contract.Result{}, err
	}
	files, err := tuned.Find(in)
	if err != nil {
		return contract.Result{}, err
	}
	m, err := gather(in, c, files, emit)
	if err != nil {
		return contract.Result{}, err
	}
	answered, shown := m.choose()
	work := int64(2 * (len(m.samples) + len(answered)))
	e := &evaluation{m: m, answered: answered, emit: emit, report: progress.New(emit, "samples", work, time.Now)}
	emit.Info(fmt.Sprintf("both models answer %d samples of %s", len(m.samples), m.split), nil)

	base, err := e.measure(ctx, "base", files.OpenBase)
	if err != nil {
		return contract.Result{}, err
	}
	tunedResult, err := e.measure(ctx, "tuned", files.OpenTuned)
	if err != nil {
		return contract.Result{}, err
	}
	r := m.conclude(base, tunedResult, shown)
	if r.Verdict != "" {
		e.emit.Info(r.Verdict, nil)
	}
	if err := writeExtremes(filepath.Join(in.OutputDir, SamplesFile), r.Extremes); err != nil {
		return contract.Result{}, err
	}
	seconds := e.report.End(work)
	if err := dataset.WriteJSON(filepath.Join(in.OutputDir, MetricsFile), r); err != nil {
		return contract.Result{}, fmt.Errorf("write metrics: %w", err)
	}
	metrics := map[string]float64{
		"base_loss": r.Base.Loss, "tuned_loss": r.Tuned.Loss, "samples_per_second": float64(2*len(m.samples)) / seconds,
	}
	for name, s := range map[string]Scores{"base": r.Base, "tuned": r.Tuned} {
		if s.Classification != nil {
			metrics[name+"_accuracy"], metrics[name+"_macro_f1"] = s.Accuracy, s.MacroF1
		}
		if s.Generation != nil {
			g := s.Generation
			metrics[name+"_exact_match"], metrics[name+"_token_f1"], metrics[name+"_bleu"] = g.ExactMatch, g.TokenF1, g.BLEU
			metrics[name+"_rouge_1"], metrics[name+"_rouge_2"], metrics[name+"_rouge_l"] = g.Rouge1, g.Rouge2, g.RougeL
		}
	}
	return contract.Result{
		Output:    map[string]any{OutputKey: r.brief()},
		Artifacts: map[string]contract.Artifact{MetricsFile: {Path: MetricsFile}, SamplesFile: {Path: SamplesFile}},
		Metrics:   metrics,
	}, nil
}

// evaluation is one run of the stage.
type evaluation struct {
	m        *material
	answered []int
	emit     *contract.Emitter
	report   *progress.Reporter
	done     int64
}

// measured is what came out for one model.
type measured struct {
	scores    Scores
	predicted []int          // labels, classification only
	answers   map[int]string // by sample
	perSample *perSample
	answered  *answerScores // of tasks that are scored by answers
}

// measure opens one model, scores it and closes it: two models at a time would
// take twice the memory.
func (e *evaluation) measure(ctx context.Context, name string, open func() (*tuned.Model, error)) (measured, error) {
	mod, err := open()
	if err != nil {
		return measured{}, err
	}
	defer mod.Close()
	at := func(n int) {
		e.done += int64(n)
		e.report.At(e.done)
	}
	out, err := e.m.score(ctx, mod.Model, at)
	if err != nil {
		return measured{}, err
	}
	if out.answers, err = e.m.generate(ctx, mod.Model, e.answered, at); err != nil {
		return measured{}, err
	}
	fields := map[string]any{"model": name, "perplexity": out.scores.Perplexity}
	words := fmt.Sprintf("%s model: loss %.4f", name, out.scores.Loss)
	if c := out.scores.Classification; c != nil {
		words += fmt.Sprintf(", accuracy %.1f %%, macro F1 %.3f", 100*c.Accuracy, c.MacroF1)
		fields["accuracy"], fields["macro_f1"] = c.Accuracy, c.MacroF1
	} else if len(out.answers) > 0 {
		out.answered = e.m.compare(out.answers)
		g := out.answered.generation()
		out.scores.Generation = g
		out.rank(len(e.m.samples))
		words += fmt.Sprintf(", exact match %.1f %%, token F1 %.3f, ROUGE-L %.3f, BLEU %.1f", 100*g.ExactMatch, g.TokenF1, g.RougeL, g.BLEU)
		fields["exact_match"], fields["token_f1"], fields["rouge_l"], fields["bleu"] = g.ExactMatch, g.TokenF1, g.RougeL, g.BLEU
	}
	loss := out.scores.Loss
	e.emit.Emit(contract.Event{Level: contract.LevelMetric, Message: words, EvalLoss: &loss, Fields: fields})
	return out, nil
}

// conclude puts both models' figures side by side.
func (m *material) conclude(base, tuned measured, shown []int) Report {
	r := Report{
		Task: m.summary.Task, Split: m.split, TestSamples: len(m.samples), LeftOut: m.leftOut,
		Base: base.scores, Tuned: tuned.scores, Answers: []Answer{},
	}
	r.Improved = r.Tuned.Loss < r.Base.Loss
	if r.Base.Classification != nil {
		r.Improved = r.Tuned.Accuracy > r.Base.Accuracy
	}
	if r.Comparisons = m.comparisons(base, tuned); len(r.Comparisons) > 0 {
		r.Verdict = r.Comparisons[0].Verdict()
	}
	r.Extremes = m.extremes(base, tuned)
	for _, i := range shown {
		s := &m.samples[i]
		a := Answer{Row: s.Row, Input: s.Input, Target: m.want(s), Base: base.answers[i], Tuned: tuned.answers[i]}
		if m.labels != nil {
			a.BaseLabel, a.TunedLabel = m.summary.Labels[base.predicted[i]], m.summary.Labels[tuned.predicted[i]]
		}
		r.Answers = append(r.Answers, a)
	}
	return r
}
