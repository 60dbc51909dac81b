package evaluation

// comparisons bootstraps the figures of both models.
func (m *material) comparisons(base, tuned measured) []Comparison {
	var out []Comparison
	seed := m.config.Seed
	if m.labels != nil {
		n, classes := len(m.samples), len(m.labels)
		out = append(out,
			Compare("accuracy", n, seed, mean(hits(m.truth, base.predicted)), mean(hits(m.truth, tuned.predicted))),
			Compare("macro_f1", n, seed, macroF1Of(classes, m.truth, base.predicted), macroF1Of(classes, m.truth, tuned.predicted)))
	}
	loss := Compare("loss", len(m.samples), seed, perToken(base.perSample.nats, base.perSample.tokens), perToken(tuned.perSample.nats, tuned.perSample.tokens))
	loss.LowerBetter = true
	out = append(out, loss)
	b, t := base.answered, tuned.answered
	if b == nil || t == nil {
		return out
	}
	add := func(metric string, base, tuned Statistic) {
		out = append(out, Compare(metric, len(b.which), seed, base, tuned))
	}
	add("exact_match", mean(b.exact), mean(t.exact))
	add("token_f1", mean(b.f1), mean(t.f1))
	for _, k := range []struct {
		name string
		pick func(Rouge) float64
	}{
		{"rouge_1", func(r Rouge) float64 { return r.Rouge1 }}, {"rouge_2", func(r Rouge) float64 { return r.Rouge2 }},
		{"rouge_l", func(r Rouge) float64 { return r.RougeL }}, {"rouge_lsum", func(r Rouge) float64 { return r.RougeLsum }},
	} {
		add(k.name, mean(b.rouges(k.pick)), mean(t.rouges(k.pick)))
	}
	add("bleu", bleuOf(b.bleu), bleuOf(t.bleu))
	return out
}

func hits(truth, predicted []int) []float64 {
	out := make([]float64, len(truth))
	for i := range truth {
		if truth[i] == predicted[i] {
			out[i] = 1
		}
	}
	return out
}

// rank lets extremes order by the answers instead of the loss.
func (m *measured) rank(samples int) {
	p, a := m.perSample, m.answered
	p.metric, p.scored, p.score = "rouge_l", make([]bool, samples), make([]float64, samples)
	for i, which := range a.which {
		p.scored[which] = true
		p.score[which] = a.l[i]
	}
}
