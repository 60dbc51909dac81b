package evaluation

import "fmt"

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
	Accuracy   float64      `json:"accuracy"`
	MacroF1    float64      `json:"macro_f1"`
	MicroF1    float64      `json:"micro_f1"`
	WeightedF1 float64      `json:"weighted_f1"`
	PerClass   []ClassScore `json:"per_class"`
	Labels     []string     `json:"labels"`
	// Confusion[i][j] counts the samples of class i that were predicted as j.
	Confusion [][]int `json:"confusion_matrix"`
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
