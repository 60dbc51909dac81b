package evaluation

import (
	"encoding/json"
	"math"
	"unicode/utf8"
)

// OutputKey is the key of Report in the stage's output.
const OutputKey = "evaluation"

// MetricsFile is the artifact's name.
const MetricsFile = "metrics.json"

// Report is what the stage found.
type Report struct {
	Task        string `json:"task"`
	Split       string `json:"split"`        // the file that the samples are from
	TestSamples int    `json:"test_samples"` // samples scored
	// LeftOut are samples that no figure counts, since the model's context does not hold
	// their prompt and the longest label.
	LeftOut int `json:"left_out,omitempty"`
	// Improved: the tuned model is more accurate (classification), or its loss is
	// lower (other tasks), be it by chance.
	Improved bool `json:"improved"`
	// Verdict says which model is better as far as the first comparison can tell.
	Verdict string `json:"verdict,omitempty"`
	Base    Scores `json:"base"`
	Tuned   Scores `json:"tuned"`
	// Comparisons are the figures side by side with their intervals, the one that
	// decides Improved and Verdict first.
	Comparisons []Comparison `json:"comparisons"`
	Answers     []Answer     `json:"answers"`
	// Extremes are the samples that the tuned model does worst and best on; all of
	// them are in SamplesFile too.
	Extremes []Extreme `json:"worst_and_best,omitempty"`
}

// Scores are the figures of one model.
type Scores struct {
	*Classification // classification only
	*Generation     // other tasks only

	Loss       float64 `json:"loss"`       // mean over the completions' tokens, nats
	Perplexity float64 `json:"perplexity"` // e to the loss
	Tokens     int64   `json:"completion_tokens"`
}

// Generation are the figures of greedy answers, means over Generated samples.
type Generation struct {
	ExactMatch float64 `json:"exact_match"`
	TokenF1    float64 `json:"token_f1"`
	Rouge              // without stemming
	Stemmed    *Rouge  `json:"rouge_stemmed,omitempty"` // with Porter's stemmer, for English
	// RougeTokenizer is rouge_score, or unicode where that would lose a tenth of the
	// letters or more.
	RougeTokenizer string  `json:"rouge_tokenizer"`
	BLEU           float64 `json:"bleu"`          // 0 to 100, of all answers together
	SentenceBLEU   float64 `json:"sentence_bleu"` // mean of the answers' own, with effective order
	BLEUSignature  string  `json:"bleu_signature"`
	Generated      int     `json:"generated_samples"`
}

// Answer is one held-out sample with what both models write for it, greedily and
// without constraint. The labels are what the constrained scoring chose.
type Answer struct {
	Row        int64  `json:"row"` // of the source file
	Input      string `json:"input"`
	Target     string `json:"target"`
	Base       string `json:"base"`
	Tuned      string `json:"tuned"`
	BaseLabel  string `json:"base_label,omitempty"`
	TunedLabel string `json:"tuned_label,omitempty"`
}

// perplexity is e to the loss, which JSON must be able to hold.
func perplexity(loss float64) float64 { return min(math.Exp(loss), math.MaxFloat64) }

// Bounds of the stage's output, of which the contract allows 64 KiB.
const (
	outputBytes  = 48 << 10
	outputLabels = 24 // more have their tables in the artifact only
	answerBytes  = 1200
)

// brief is the report as the stage's output holds it: long texts cut, large
// tables left to the artifact.
func (r Report) brief() Report {
	room := answerBytes
	if n := len(r.Answers); n > 0 {
		room = min(room, outputBytes/2/(6*n))
	}
	answers := make([]Answer, len(r.Answers))
	for i, a := range r.Answers {
		for _, text := range []*string{&a.Input, &a.Target, &a.Base, &a.Tuned, &a.BaseLabel, &a.TunedLabel} {
			*text = cut(*text, room)
		}
		answers[i] = a
	}
	r.Answers, r.Extremes = answers, nil
	data, err := json.Marshal(r)
	for _, s := range []*Scores{&r.Base, &r.Tuned} {
		if c := s.Classification; c != nil && (len(c.Labels) > outputLabels || err != nil || len(data) > outputBytes) {
			small := *c
			small.PerClass, small.Labels, small.Confusion = nil, nil, nil
			s.Classification = &small
		}
	}
	return r
}

// cut shortens a text to at most n bytes, at a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	n = max(0, n-len("…"))
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}
