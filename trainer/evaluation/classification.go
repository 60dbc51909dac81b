package evaluation

import (
	"fmt"
	"math"
)

// ClassScore is one class of a report.
type ClassScore struct {
	Label     string  `json:"label"`
	Precision float64 `json:"precision"`
	Recall    float64 `json:"recall"`
	F1        float64 `json:"f1"`
	Support   int     `json:"support"` // true samples of the class
}

// Classification is a report in the sense of scikit-learn's
// precision_recall_fscore_support and confusion_matrix with labels given and
// zero_division=0: a class that was never predicted has precision 0, one that
// never occurs has recall 0, and both count in the macro mean.
type Classification struct {
	Accuracy float64 `json:"accuracy"`
	// AccuracyCI95 is Wilson's interval for the accuracy, at 95 %: what it may
	// well be on other samples of the same kind.
	AccuracyCI95 [2]float64   `json:"accuracy_ci95"`
	MacroF1      float64      `json:"macro_f1"`
	MicroF1      float64      `json:"micro_f1"`
	WeightedF1   float64      `json:"weighted_f1"`
	PerClass     []ClassScore `json:"per_class,omitempty"`
	Labels       []string     `json:"labels,omitempty"`
	// Confusion[i][j] counts the samples of class i that were predicted as j.
	Confusion [][]int `json:"confusion_matrix,omitempty"`
}

// Classify scores predictions, given as indexes into labels, against the truth.
func Classify(labels []string, truth, predicted []int) (Classification, error) {
	if len(truth) != len(predicted) {
		return Classification{}, fmt.Errorf("evaluation: %d true labels but %d predictions", len(truth), len(predicted))
	}
	if len(truth) == 0 || len(labels) == 0 {
		return Classification{}, fmt.Errorf("evaluation: no samples or no labels to score")
	}
	report := Classification{Labels: labels, Confusion: make([][]int, len(labels))}
	for i := range report.Confusion {
		report.Confusion[i] = make([]int, len(labels))
	}
	for i, want := range truth {
		got := predicted[i]
		if want < 0 || want >= len(labels) || got < 0 || got >= len(labels) {
			return Classification{}, fmt.Errorf("evaluation: sample %d has label %d, predicted %d, of %d labels", i, want, got, len(labels))
		}
		report.Confusion[want][got]++
	}
	report.score(len(truth))
	return report, nil
}

// score fills the figures in from the confusion matrix.
func (r *Classification) score(n int) {
	hits := 0
	for i, label := range r.Labels {
		var support, claimed int
		for j := range r.Labels {
			support += r.Confusion[i][j]
			claimed += r.Confusion[j][i]
		}
		hit := r.Confusion[i][i]
		hits += hit
		c := ClassScore{
			Label: label, Support: support,
			Precision: ratio(hit, claimed), Recall: ratio(hit, support),
			F1: ratio(2*hit, support+claimed),
		}
		r.PerClass = append(r.PerClass, c)
		r.MacroF1 += c.F1 / float64(len(r.Labels))
		r.WeightedF1 += c.F1 * float64(support) / float64(n)
	}
	r.Accuracy = ratio(hits, n)
	r.AccuracyCI95 = wilson(hits, n)
	// Each sample has one true and one predicted label, so that false positives
	// and false negatives are equally many: micro F1 is the accuracy.
	r.MicroF1 = r.Accuracy
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// wilson is the 95 % score interval of a share of hits among n (Wilson 1927).
func wilson(hits, n int) [2]float64 {
	const z = 1.959963984540054
	p, m := ratio(hits, n), float64(n)
	centre := p + z*z/(2*m)
	half := z * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	scale := 1 + z*z/m
	return [2]float64{max(0, (centre-half)/scale), min(1, (centre+half)/scale)}
}
