package inference

import (
	"math"
	"testing"
)

func draw(s sampling, seed uint64, logits []float32, n int) map[int32]int {
	sampler := newSampler(s, seed)
	seen := map[int32]int{}
	for range n {
		seen[sampler.next(logits)]++
	}
	return seen
}

func TestNoTemperatureTakesTheMostLikelyOfTheLowestID(t *testing.T) {
	if got := draw(sampling{topP: 1}, 1, []float32{0, 3, 3, 1}, 5); got[1] != 5 {
		t.Errorf("drawn %v", got)
	}
}

// Frequencies follow softmax(logits / temperature).
func TestDrawsFollowTheDistribution(t *testing.T) {
	logits := []float32{1, 0, -1, 2}
	const n, temperature = 40_000, 0.7
	got := draw(sampling{temperature: temperature, topP: 1}, 7, logits, n)
	var total float64
	for _, v := range logits {
		total += math.Exp(float64(v) / temperature)
	}
	for i, v := range logits {
		p := math.Exp(float64(v)/temperature) / total
		// Five standard deviations of a binomial count.
		if far := math.Abs(float64(got[int32(i)])/n - p); far > 5*math.Sqrt(p*(1-p)/n) {
			t.Errorf("token %d: %d of %d, expected %.4f", i, got[int32(i)], n, p)
		}
	}
}

func TestTopKAndTopPCutTheTail(t *testing.T) {
	logits := []float32{0, 2, 1, -3}
	for token := range draw(sampling{temperature: 1, topK: 2, topP: 1}, 1, logits, 2000) {
		if token != 1 && token != 2 {
			t.Errorf("top_k 2 drew %d", token)
		}
	}
	// Probabilities: .09 .66 .24 .004; .66 alone has 0.6, with .24 0.8.
	if got := draw(sampling{temperature: 1, topP: .6}, 1, logits, 2000); got[1] != 2000 {
		t.Errorf("top_p 0.6 drew %v", got)
	}
	got := draw(sampling{temperature: 1, topP: .8}, 1, logits, 2000)
	if got[1] == 0 || got[2] == 0 || got[0]+got[3] != 0 {
		t.Errorf("top_p 0.8 drew %v", got)
	}
}

func TestAnEqualSeedDrawsEqually(t *testing.T) {
	a, b := newSampler(sampling{temperature: 1, topP: 1}, 5), newSampler(sampling{temperature: 1, topP: 1}, 5)
	logits := make([]float32, 50)
	for range 100 {
		if x, y := a.next(logits), b.next(logits); x != y {
			t.Fatalf("%d and %d", x, y)
		}
	}
}
