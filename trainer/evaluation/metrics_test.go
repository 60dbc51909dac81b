package evaluation_test

import (
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/evaluation"
)

// The figures were computed with scikit-learn 1.9.1 (accuracy_score, f1_score,
// precision_recall_fscore_support, confusion_matrix; labels given,
// zero_division=0).
var sklearn = []struct {
	name                           string
	labels                         []string
	truth, predicted               []string
	accuracy, macro, micro, weight float64
	precision, recall, f1          []float64
	support                        []int
	confusion                      [][]int
}{
	{
		name:   "three classes",
		labels: []string{"a", "b", "c"},
		truth:  []string{"a", "b", "c", "a", "b", "c", "a", "a", "b", "c"}, predicted: []string{"a", "b", "b", "a", "c", "c", "b", "a", "b", "a"},
		accuracy: 0.6, macro: 0.5738095238095239, micro: 0.6, weight: 0.5914285714285714,
		precision: []float64{0.75, 0.5, 0.5}, recall: []float64{0.75, 0.6666666666666666, 0.3333333333333333},
		f1: []float64{0.75, 0.5714285714285714, 0.4}, support: []int{4, 3, 3},
		confusion: [][]int{{3, 1, 0}, {0, 2, 1}, {1, 1, 1}},
	},
	{
		name:   "a class that is never predicted",
		labels: []string{"billing", "login", "shipping", "refund"},
		truth:  []string{"billing", "billing", "login", "login", "login", "shipping", "refund", "refund"}, predicted: []string{"billing", "login", "login", "login", "billing", "shipping", "shipping", "billing"},
		accuracy: 0.5, macro: 0.43333333333333335, micro: 0.5, weight: 0.4333333333333333,
		precision: []float64{0.3333333333333333, 0.6666666666666666, 0.5, 0}, recall: []float64{0.5, 0.6666666666666666, 1, 0},
		f1: []float64{0.4, 0.6666666666666666, 0.6666666666666666, 0}, support: []int{2, 3, 1, 2},
		confusion: [][]int{{1, 1, 0, 0}, {1, 2, 0, 0}, {0, 0, 1, 0}, {1, 0, 1, 0}},
	},
	{
		name:   "a class that does not occur",
		labels: []string{"x", "y", "z"},
		truth:  []string{"x", "x", "y", "y"}, predicted: []string{"x", "x", "x", "x"},
		accuracy: 0.5, macro: 0.2222222222222222, micro: 0.5, weight: 0.3333333333333333,
		precision: []float64{0.5, 0, 0}, recall: []float64{1, 0, 0},
		f1: []float64{0.6666666666666666, 0, 0}, support: []int{2, 2, 0},
		confusion: [][]int{{2, 0, 0}, {2, 0, 0}, {0, 0, 0}},
	},
}

func TestClassificationScoresAreScikitLearns(t *testing.T) {
	for _, c := range sklearn {
		t.Run(c.name, func(t *testing.T) {
			index := map[string]int{}
			for i, l := range c.labels {
				index[l] = i
			}
			var truth, predicted []int
			for i := range c.truth {
				truth, predicted = append(truth, index[c.truth[i]]), append(predicted, index[c.predicted[i]])
			}
			got, err := evaluation.Classify(c.labels, truth, predicted)
			if err != nil {
				t.Fatal(err)
			}
			near := func(what string, got, want float64) {
				t.Helper()
				if math.Abs(got-want) > 1e-12 {
					t.Errorf("%s = %.16f, want %.16f", what, got, want)
				}
			}
			near("accuracy", got.Accuracy, c.accuracy)
			near("macro F1", got.MacroF1, c.macro)
			near("micro F1", got.MicroF1, c.micro)
			near("weighted F1", got.WeightedF1, c.weight)
			for i, class := range got.PerClass {
				near(class.Label+" precision", class.Precision, c.precision[i])
				near(class.Label+" recall", class.Recall, c.recall[i])
				near(class.Label+" F1", class.F1, c.f1[i])
				if class.Support != c.support[i] {
					t.Errorf("%s support %d, want %d", class.Label, class.Support, c.support[i])
				}
			}
			if !reflect.DeepEqual(got.Confusion, c.confusion) {
				t.Errorf("confusion %v, want %v", got.Confusion, c.confusion)
			}
		})
	}
}

func TestScoresStayBetweenZeroAndOneWhateverIsPredicted(t *testing.T) {
	labels := []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		truth := rapid.SliceOfN(rapid.IntRange(0, 2), 1, 30).Draw(t, "truth")
		predicted := rapid.SliceOfN(rapid.IntRange(0, 2), len(truth), len(truth)).Draw(t, "predicted")
		r, err := evaluation.Classify(labels, truth, predicted)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []float64{r.Accuracy, r.MacroF1, r.WeightedF1} {
			if !(v >= 0 && v <= 1+1e-12) {
				t.Fatalf("figure %v out of range: %+v", v, r)
			}
		}
		if perfect := reflect.DeepEqual(truth, predicted); perfect != (r.Accuracy == 1) {
			t.Fatalf("accuracy %v, all right: %v", r.Accuracy, perfect)
		}
	})
}

func TestClassifyRefusesWhatCannotBeScored(t *testing.T) {
	for name, c := range map[string][2][]int{
		"lengths":     {{0, 1}, {0}},
		"no samples":  {{}, {}},
		"label range": {{0}, {2}},
	} {
		if _, err := evaluation.Classify([]string{"a", "b"}, c[0], c[1]); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAnswersAreComparedAsSQuADDoes(t *testing.T) {
	for _, c := range []struct {
		answer, want string
		exact        bool
		f1           float64
	}{
		{"Paris.", "paris", true, 1},
		{"the city of Paris", "Paris", false, 0.4},
		{"a b b", "b b c", false, 2.0 / 3},
		{"", "", true, 1},
		{"", "x", false, 0},
		{"Größe:  XL", "größe xl", true, 1},
	} {
		if got := evaluation.ExactMatch(c.answer, c.want); got != c.exact {
			t.Errorf("ExactMatch(%q, %q) = %v", c.answer, c.want, got)
		}
		if got := evaluation.TokenF1(c.answer, c.want); math.Abs(got-c.f1) > 1e-12 {
			t.Errorf("TokenF1(%q, %q) = %v, want %v", c.answer, c.want, got, c.f1)
		}
	}
}
