package export

import (
	"context"
	"fmt"
	"math"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// Parity compares the exported model, read again, with the tuned one: base model
// and adapter in full precision.
type Parity struct {
	Prompts   int     `json:"prompts"`
	Positions int     `json:"positions"`         // next-token distributions compared
	MaxDelta  float64 `json:"max_delta_logit"`   // largest difference of a logit
	MaxLogit  float64 `json:"max_logit"`         // largest absolute logit of the tuned model
	MaxKL     float64 `json:"max_kl"`            // nats, from the tuned to the exported model
	MeanKL    float64 `json:"mean_kl"`           // nats
	SameTop   float64 `json:"same_top"`          // share of positions with the same best token
	LimitKL   float64 `json:"limit_kl"`          // MaxKL at which the export is refused
	Limit     float64 `json:"limit_delta_logit"` // MaxDelta at which it is refused
	// TrainedDelta is the largest difference of a logit between the tuned and the
	// base model: what the differences above have to be small against.
	TrainedDelta float64 `json:"trained_delta_logit"`
	DType        string  `json:"dtype"` // format of the exported matrices
}

// limits are the bounds of parity by the format that the merged weights are
// rounded to: the share of the largest logit that one may be off, and nats of
// divergence. F32 differs in the order of sums only. BF16 keeps 8 bits of each
// weight, which moves logits by about a thousandth; a wrong scale, a matrix left
// out or transposed moves them by far more.
var limits = map[string]struct{ delta, kl float64 }{
	weights.F32:  {1e-3, 1e-4},
	weights.F16:  {1e-2, 1e-3},
	weights.BF16: {5e-2, 1e-2},
}

const (
	parityPrompts = 8
	parityTokens  = 4 // of each completion, besides the end of the prompt
)

// probe is a token sequence of which the distributions after the last few tokens
// are compared.
type probe struct {
	prompt []int32
	next   []int32
}

// probes takes prompts of the held-out samples, evenly spread, or made-up tokens if
// there are none.
func probes(in contract.Input, cfg model.Config) ([]probe, error) {
	for _, name := range []string{sample.TestFile, sample.ValidationFile, sample.TrainFile} {
		f, err := in.FindName(name)
		if err != nil {
			continue
		}
		samples, err := sample.ReadFile(f.Path, 4096)
		if err != nil {
			return nil, err
		}
		var out []probe
		for i := range min(len(samples), parityPrompts) {
			s := samples[i*len(samples)/min(len(samples), parityPrompts)]
			if n := s.PromptTokens; n > 0 && n <= len(s.Tokens) && len(s.Tokens) <= cfg.MaxPositions {
				rest := s.Tokens[n:]
				out = append(out, probe{s.Tokens[:n], rest[:min(len(rest), parityTokens)]})
			}
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	var p probe
	for i := range min(32, cfg.MaxPositions) {
		p.prompt = append(p.prompt, int32((i*7919+1)%cfg.VocabSize))
	}
	return []probe{p}, nil
}

// logits computes all distributions that are compared, [positions][vocab].
func logits(ctx context.Context, m *model.Model, list []probe) ([][]float32, error) {
	var out [][]float32
	for _, p := range list {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s := m.NewSession()
		row, err := s.Append(p.prompt)
		if err != nil {
			return nil, fmt.Errorf("export: parity: %w", err)
		}
		out = append(out, append([]float32(nil), row...))
		for i := range p.next {
			if row, err = s.Append(p.next[i : i+1]); err != nil {
				return nil, fmt.Errorf("export: parity: %w", err)
			}
			out = append(out, append([]float32(nil), row...))
		}
	}
	return out, nil
}

// compare measures got, the exported model's logits, against want.
func compare(prompts int, dtype string, want, got [][]float32) Parity {
	p := Parity{Prompts: prompts, Positions: len(want), DType: dtype}
	same := 0
	for i := range want {
		bestWant, bestGot := 0, 0
		for j, w := range want[i] {
			g := got[i][j]
			d := math.Abs(float64(w) - float64(g))
			if math.IsNaN(d) {
				d = math.Inf(1)
			}
			p.MaxDelta, p.MaxLogit = max(p.MaxDelta, d), max(p.MaxLogit, math.Abs(float64(w)))
			if w > want[i][bestWant] {
				bestWant = j
			}
			if g > got[i][bestGot] {
				bestGot = j
			}
		}
		if bestWant == bestGot {
			same++
		}
		kl := divergence(want[i], got[i])
		p.MaxKL, p.MeanKL = max(p.MaxKL, kl), p.MeanKL+kl/float64(len(want))
	}
	p.SameTop = float64(same) / float64(max(1, len(want)))
	p.LimitKL, p.Limit = limits[dtype].kl, limits[dtype].delta*max(1, p.MaxLogit)
	return p
}

// check refuses an export that is not what was trained.
func (p Parity) check(what string) error {
	if p.MaxDelta <= p.Limit && p.MaxKL <= p.LimitKL {
		return nil
	}
	return &contract.Error{
		Class: contract.ClassInternal, Code: "EXPORT_DIFFERS",
		Message: fmt.Sprintf("%s, read again, does not compute what was trained: logits differ by up to %.4g (allowed: %.4g), KL %.4g nats (allowed: %.4g) over %d positions",
			what, p.MaxDelta, p.Limit, p.MaxKL, p.LimitKL, p.Positions),
		Hint: "the adapter is whole and can be used; if its weights are very large, train with a lower learning rate or export from an F32 base model",
	}
}

// divergence is KL(p || q) in nats of two distributions given by their logits.
func divergence(p, q []float32) float64 {
	lp, lq := logSum(p), logSum(q)
	sum := 0.0
	for i := range p {
		a, b := float64(p[i])-lp, float64(q[i])-lq
		sum += math.Exp(a) * (a - b)
	}
	if math.IsNaN(sum) {
		return math.Inf(1)
	}
	return max(0, sum)
}

// logSum is the logarithm of the sum of the exponentials.
func logSum(x []float32) float64 {
	top := math.Inf(-1)
	for _, v := range x {
		top = max(top, float64(v))
	}
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}
