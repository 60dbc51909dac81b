package summary

import (
	"encoding/json"

	"github.com/tunemesh/tunemesh/api"
)

// evaluation is what the evaluation stage puts into its output under
// "evaluation"; only the fields that are shown.
type evaluation struct {
	Task        string       `json:"task"`
	TestSamples int64        `json:"test_samples"`
	Base        scores       `json:"base"`
	Tuned       scores       `json:"tuned"`
	Comparisons []comparison `json:"comparisons"`
	Answers     []answer     `json:"answers"`
	Improved    *bool        `json:"improved"`
}

// answer is one held-out sample with what both models made of it.
type answer struct {
	Input  string `json:"input"`
	Target string `json:"target"`
	Base   string `json:"base"`
	Tuned  string `json:"tuned"`
}

// scores are the numbers of one model; whatever else stands beside them
// (tables, lists) is skipped.
type scores map[string]float64

// UnmarshalJSON implements json.Unmarshaler.
func (s *scores) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	*s = scores{}
	for name, raw := range fields {
		var v *float64
		if json.Unmarshal(raw, &v) == nil && v != nil {
			(*s)[name] = *v
		}
	}
	return nil
}

// preprocessing is what the preprocessing stage puts under "preprocessing".
type preprocessing struct {
	Rows       int64            `json:"rows"`
	Train      int64            `json:"train"`
	Validation int64            `json:"validation"`
	Test       int64            `json:"test"`
	Dropped    map[string]int64 `json:"dropped"`
	Redacted   map[string]int64 `json:"redacted"`
}

// find decodes the output of the last stage that carries key into out.
func find(job api.JobDetail, key string, out any) bool {
	for i := len(job.Stages) - 1; i >= 0; i-- {
		var fields map[string]json.RawMessage
		if json.Unmarshal(job.Stages[i].Output, &fields) != nil {
			continue
		}
		if raw, ok := fields[key]; ok && string(raw) != "null" {
			return json.Unmarshal(raw, out) == nil
		}
	}
	return false
}

// Improved says whether the tuned model beat the base model: the interval of the
// difference that decides holds no zero, on the good side. An evaluation without
// intervals is taken at its word. known is false where the job has no judgement.
func Improved(job api.JobDetail) (improved, known bool) {
	var e evaluation
	switch {
	case !find(job, "evaluation", &e):
		return false, false
	case len(e.Comparisons) > 0:
		return e.Comparisons[0].better(), true
	case e.Improved != nil:
		return *e.Improved, true
	}
	return false, false
}
