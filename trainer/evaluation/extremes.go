package evaluation

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// SamplesFile is the artifact with the best and the worst samples, one JSON object
// on a line, the worst first.
const SamplesFile = "evaluation_samples.jsonl"

// Bounds of the samples kept: of each end so many, of each text so many bytes.
const (
	keptSamples = 20
	keptBytes   = 4000
)

// Extreme is one of the samples that the tuned model does best or worst on.
type Extreme struct {
	Rank   int    `json:"rank"` // 1 is the worst of the worst, the best of the best
	End    string `json:"end"`  // worst or best
	Row    int64  `json:"row"`
	Prompt string `json:"prompt"` // as the model gets it
	Target string `json:"target"`
	// Answer is the greedy answer, or the label chosen. A task without answers has
	// none.
	Answer     string `json:"answer,omitempty"`
	BaseAnswer string `json:"base_answer,omitempty"`
	// Score is what the order is by, higher is better: the nats by which the true
	// label leads the best other (classification), ROUGE-L over words of any script
	// (answers), or less the loss per token (completion).
	Score     float64 `json:"score"`
	BaseScore float64 `json:"base_score"`
	Metric    string  `json:"metric"`
}

// extremes orders what was measured by the tuned model's score and keeps both ends.
// A sample is in one of them only.
func (m *material) extremes(base, tuned measured) []Extreme {
	type scored struct {
		sample int
		score  float64
	}
	var list []scored
	for i, s := range tuned.perSample.score {
		if tuned.perSample.has(i) {
			list = append(list, scored{i, s})
		}
	}
	slices.SortStableFunc(list, func(a, b scored) int { return cmp.Compare(a.score, b.score) })
	n := min(keptSamples, (len(list)+1)/2)
	var out []Extreme
	add := func(end string, rank int, s scored) {
		sm := &m.samples[s.sample]
		e := Extreme{
			Rank: rank, End: end, Row: sm.Row, Prompt: cut(m.tok.Decode(sm.Tokens[:sm.PromptTokens], false), keptBytes), Target: cut(m.want(sm), keptBytes),
			Score: s.score, BaseScore: base.perSample.score[s.sample], Metric: tuned.perSample.metric,
		}
		if m.labels != nil {
			e.Answer, e.BaseAnswer = m.summary.Labels[tuned.predicted[s.sample]], m.summary.Labels[base.predicted[s.sample]]
		} else {
			e.Answer, e.BaseAnswer = cut(tuned.answers[s.sample], keptBytes), cut(base.answers[s.sample], keptBytes)
		}
		out = append(out, e)
	}
	for i := range n {
		add("worst", i+1, list[i])
	}
	for i := range min(keptSamples, len(list)-n) {
		add("best", i+1, list[len(list)-1-i])
	}
	return out
}

func writeExtremes(path string, list []Extreme) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("evaluation: samples: %w", err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, e := range list {
		if err := enc.Encode(e); err != nil {
			return fmt.Errorf("evaluation: samples: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("evaluation: samples: %w", err)
	}
	return f.Close()
}
