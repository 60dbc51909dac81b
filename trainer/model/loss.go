package model

import (
	"fmt"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// Loss returns the summed weighted cross-entropy, Σ weight·(−log p), in nats
// over all targets of the batch, and the number of targets (tokens of weight
// other than 0). Divide the sums over all micro-batches by the number of their
// targets to get the mean. Dropout does not apply.
func (m *Model) Loss(batch []Sequence) (sum float64, targets int, err error) {
	if _, targets, err = m.checkBatch(batch); err != nil || targets == 0 {
		return 0, targets, err
	}
	m.eng.With(func() {
		x := m.forward(pack(batch), false, false)
		sum = m.headLoss(batch, x, nil)
	})
	return sum, targets, nil
}

// LossAndGrad does what Loss does and adds the gradient of the sum, not of the
// mean, to the Grad of every trainable tensor: after the last micro-batch,
// scale the gradients by 1/targets.
func (m *Model) LossAndGrad(batch []Sequence) (sum float64, targets int, err error) {
	if len(m.params) == 0 {
		return 0, 0, fmt.Errorf("model: nothing to train: call AddLoRA or TrainAll first")
	}
	if _, targets, err = m.checkBatch(batch); err != nil || targets == 0 {
		return 0, targets, err
	}
	r := pack(batch)
	r.train = m.lora != nil
	keep := !m.recomp
	m.eng.With(func() {
		x := m.forward(r, keep, true)
		dx := buf(&m.work.dx, len(x))
		clear(dx)
		sum = m.headLoss(batch, x, dx)
		m.backward(r, dx, keep)
	})
	return sum, targets, nil
}

// target is one prediction that counts: the packed row that makes it.
type target struct {
	row    int
	token  int32
	weight float32
}

func listTargets(batch []Sequence) []target {
	var list []target
	row := 0
	for _, s := range batch {
		for j := 1; j < len(s.Tokens); j++ {
			if s.Weights[j] != 0 {
				list = append(list, target{row + j - 1, s.Tokens[j], s.Weights[j]})
			}
		}
		row += len(s.Tokens)
	}
	return list
}

// logitValues bounds the logits that exist at one time: the whole matrix would
// be the largest of all buffers.
const logitValues = 12 << 20

// headRows is the number of targets whose logits are computed together. It
// depends on the shape only, for the head's gradient is summed chunk by chunk.
func (m *Model) headRows() int {
	const tile = 12 // rows of the widest micro-kernel: a last tile of one row would cost as much
	return max(2*tile, logitValues/m.cfg.VocabSize/tile*tile)
}

// logitStride is the distance between rows of logits: rows a multiple of 4 KiB
// apart would evict each other from the L1 cache.
func logitStride(vocab int) int {
	if vocab%1024 == 0 {
		return vocab + 16
	}
	return vocab
}

// headLoss applies the final norm and the head to the rows that have a target,
// and returns the loss. Unless dx is nil it sets those rows of dx to the
// gradient and adds to the gradients of norm and head.
func (m *Model) headLoss(batch []Sequence, x, dx []float32) (sum float64) {
	list := listTargets(batch)
	for i := 0; i < len(list); i += m.headRows() {
		chunk := list[i:min(len(list), i+m.headRows())]
		for j, lp := range m.headChunk(chunk, x, dx) {
			sum -= lp * float64(chunk[j].weight)
		}
	}
	return sum
}

// headChunk returns the log-probabilities of some targets.
func (m *Model) headChunk(chunk []target, x, dx []float32) []float64 {
	w, d, v, n := &m.work, m.cfg.HiddenSize, m.cfg.VocabSize, len(chunk)
	hx, hn, hinv := buf(&w.hx, n*d), buf(&w.hn, n*d), buf(&w.hinv, n)
	tokens, weights := make([]int32, n), make([]float32, n)
	for i, t := range chunk {
		copy(hx[i*d:(i+1)*d], x[t.row*d:])
		tokens[i], weights[i] = t.token, t.weight
	}
	m.eng.RMSNorm(hn, hinv, hx, m.norm.gain(), m.cfg.RMSNormEps)
	stride := logitStride(v)
	logits := buf(&w.logits, n*stride)
	lm, hm, head := kernel.F32Stride(logits, n, v, stride), kernel.F32(hn, n, d), m.head.matrix(v, d)
	m.eng.Gemm(kernel.Product{C: lm, Terms: []kernel.Term{{A: hm, B: head.T(), Round: m.roundsFor(m.head)}}})
	logprob := make([]float64, n)
	if dx == nil {
		m.eng.CrossEntropy(logprob, logits, v, stride, tokens, nil)
		return logprob
	}
	m.eng.CrossEntropy(logprob, logits, v, stride, tokens, weights)
	dhn, dhx := buf(&w.dhn, n*d), buf(&w.dhx, n*d)
	back := []kernel.Product{{C: kernel.F32(dhn, n, d), Terms: []kernel.Term{{A: lm, B: head, Round: m.roundsFor(m.head)}}}}
	if m.headG != nil {
		back = append(back, kernel.Product{C: kernel.F32(m.headG, v, d), Add: true, Terms: []kernel.Term{{A: lm.T(), B: hm}}})
	}
	m.eng.Gemm(back...)
	clear(dhx)
	m.eng.RMSNormGrad(dhx, m.norm.grad, dhn, hx, hinv, m.norm.gain())
	for i, t := range chunk {
		copy(dx[t.row*d:(t.row+1)*d], dhx[i*d:(i+1)*d])
	}
	return logprob
}

// BatchLogprobs returns, for each row, the log-probability in nats of each of
// its targets (tokens of weight other than 0), in order: scoring, of given
// answers or for perplexity, of many rows at once.
func (m *Model) BatchLogprobs(batch []Sequence) ([][]float64, error) {
	if _, _, err := m.checkBatch(batch); err != nil {
		return nil, err
	}
	list := listTargets(batch)
	flat := make([]float64, 0, len(list))
	if len(list) > 0 {
		m.eng.With(func() {
			x := m.forward(pack(batch), false, false)
			for i := 0; i < len(list); i += m.headRows() {
				flat = append(flat, m.headChunk(list[i:min(len(list), i+m.headRows())], x, nil)...)
			}
		})
	}
	out := make([][]float64, len(batch))
	for i := range batch {
		n := len(listTargets(batch[i : i+1]))
		out[i], flat = flat[:n:n], flat[n:]
	}
	return out, nil
}

// Logprobs returns log p(tokens[i] | tokens[:i]) in nats for every i >= from;
// from must be at least 1.
func (m *Model) Logprobs(tokens []int32, from int) ([]float64, error) {
	if from < 1 || from > len(tokens) {
		return nil, fmt.Errorf("model: logprobs from token %d of %d: the first token has no prediction", from, len(tokens))
	}
	weights := make([]float32, len(tokens))
	for i := from; i < len(tokens); i++ {
		weights[i] = 1
	}
	out, err := m.BatchLogprobs([]Sequence{{Tokens: tokens, Weights: weights}})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}
