package kernel

import "math"

// CrossEntropy computes, for each row of logits [rows, vocab], whose rows begin
// stride values apart, the logarithm of
// the softmax probability of its target. If weights is not nil it replaces the
// logits by the gradient of Σ weight·(−log p): weight·(softmax − onehot).
func (e *Engine) CrossEntropy(logprob []float64, logits []float32, vocab, stride int, targets []int32, weights []float32) {
	e.Rows(len(targets), vocab, func(r0, r1 int) {
		for r := r0; r < r1; r++ {
			row := logits[r*stride : r*stride+vocab]
			t := targets[r]
			shift := e.vec.max(row)
			z := float64(row[t] - shift)
			sum := e.vec.expSum(row, row, 1, shift)
			logprob[r] = z - math.Log(float64(sum))
			if weights != nil {
				e.vec.scale(row, row, weights[r]/sum)
				row[t] -= weights[r]
			}
		}
	})
}
