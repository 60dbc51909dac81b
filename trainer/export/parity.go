package export

import (
	"fmt"
	"math"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// Parity compares an exported model, read again, with the tuned one: base model
// and adapter in full precision.
type Parity struct {
	Prompts     int     `json:"prompts"`
	Positions   int     `json:"positions"`         // next-token distributions compared
	MaxDelta    float64 `json:"max_delta_logit"`   // largest difference of a logit
	MaxLogit    float64 `json:"max_logit"`         // largest absolute logit of the tuned model
	MaxKL       float64 `json:"max_kl"`            // nats, from the tuned to the exported model
	MeanKL      float64 `json:"mean_kl"`           // nats
	SameTop     float64 `json:"same_top"`          // share of positions with the same best token
	LimitKL     float64 `json:"limit_kl"`          // MaxKL at which the export is refused
	LimitMeanKL float64 `json:"limit_mean_kl"`     // MeanKL at which it is refused
	Limit       float64 `json:"limit_delta_logit"` // MaxDelta at which it is refused
	// TrainedDelta is the largest difference of a logit between the tuned and the
	// base model: what the differences above have to be small against.
	TrainedDelta float64 `json:"trained_delta_logit,omitempty"`
	DType        string  `json:"dtype"` // format of the exported matrices
	// Types counts the formats of a GGUF file's matrices: what became of those whose
	// rows do not fill the format's blocks.
	Types map[string]int `json:"types,omitempty"`
	// WorstRow is the largest error of a row of a GGUF file's weights against the
	// merged model's, root mean square, as a share of the row; Tensor is where.
	WorstRow float64 `json:"worst_row_error,omitempty"`
	Tensor   string  `json:"worst_tensor,omitempty"`
	// Judge is what another program made of the file, where there is one.
	Judge *Judged `json:"judge,omitempty"`
}

// limit bounds what a format may cost.
type limit struct {
	delta float64 // of a logit, as a share of the largest one
	kl    float64 // nats, at the worst position
	mean  float64 // nats, over all
}

// limits are the bounds of parity by the format that the weights are rounded to. F32
// differs in the order of sums only. BF16 keeps 8 bits of each weight, which moves
// logits by about a thousandth; a wrong scale, a matrix left out or transposed moves
// them by far more. The quantized formats cost what they cost: their bounds are those
// beyond which a file is of no use, and what is wrong with a single weight shows in
// its row (rowLimits).
var limits = map[string]limit{
	weights.F32:  {1e-3, 1e-4, 1e-4},
	weights.F16:  {1e-2, 1e-3, 1e-3},
	weights.BF16: {5e-2, 1e-2, 1e-2},
	"Q8_0":       {0.15, 0.2, 0.05},
	"Q4_K_M":     {0.8, 4, 1},
}

// rowLimits bound the error of a row of weights, root mean square, as a share of the
// row: about twice what normally distributed weights cost.
var rowLimits = map[string]float64{"F32": 1e-6, "F16": 1e-3, "BF16": 8e-3, "Q8_0": 0.02, "Q6_K": 0.05, "Q5_0": 0.12, "Q4_K": 0.2}

// tiny is below what the rows' errors are not judged: half precision, in which
// formats keep their scales, has no more bits there.
const tinyWeight = 1e-4

// wider gives the looser of two bounds: an export of an export has the errors of both.
func wider(a, b limit) limit {
	return limit{max(a.delta, b.delta), max(a.kl, b.kl), max(a.mean, b.mean)}
}

const (
	parityPrompts = 8
	parityTokens  = 4   // of each completion, besides the end of the prompt
	promptTokens  = 128 // of each prompt, its last ones
)

// probes takes prompts of the held-out samples, evenly spread, or made-up tokens if
// there are none. What is compared are the distributions after the last token of a
// prompt and after the first few of its completion.
func probes(in contract.Input, cfg model.Config) ([]model.Probe, error) {
	for _, name := range []string{sample.TestFile, sample.ValidationFile, sample.TrainFile} {
		f, err := in.FindName(name)
		if err != nil {
			continue
		}
		samples, err := sample.ReadFile(f.Path, 4096)
		if err != nil {
			return nil, err
		}
		longest := promptTokens
		if w := cfg.SlidingWindow; w != nil && len(cfg.LayerTypes) == 0 {
			longest = max(1, min(longest, *w-parityTokens)) // a GGUF file is this model within the window
		}
		var out []model.Probe
		for i := range min(len(samples), parityPrompts) {
			s := samples[i*len(samples)/min(len(samples), parityPrompts)]
			if len(s.Tokens) > cfg.MaxPositions || s.PromptTokens > len(s.Tokens) {
				continue
			}
			n := s.PromptTokens
			if n == 0 { // plain text: its beginning is the prompt
				n = (len(s.Tokens) + 1) / 2
			}
			if n > 0 {
				from := max(0, n-longest)
				out = append(out, model.Probe{Tokens: s.Tokens[from:min(len(s.Tokens), n+parityTokens)], From: n - 1 - from})
			}
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	var p model.Probe
	for i := range min(32, cfg.MaxPositions) {
		p.Tokens = append(p.Tokens, int32((i*7919+1)%cfg.VocabSize))
	}
	return []model.Probe{p}, nil
}

// compare measures got, the exported model's logits, against want.
func compare(prompts int, dtype string, bound limit, want, got [][]float32) Parity {
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
	p.LimitKL, p.LimitMeanKL, p.Limit = bound.kl, bound.mean, bound.delta*max(1, p.MaxLogit)
	return p
}

// check refuses an export that is not what was trained.
func (p Parity) check(what string) error {
	if p.within() {
		return nil
	}
	return p.fault(what)
}

func (p Parity) within() bool {
	return p.MaxDelta <= p.Limit && p.MaxKL <= p.LimitKL && p.MeanKL <= p.LimitMeanKL
}

func (p Parity) fault(what string) *contract.Error {
	return differs("%s, read again, does not compute what was trained: logits differ by up to %.4g (allowed: %.4g), KL up to %.4g nats (allowed: %.4g), %.4g on average (allowed: %.4g), over %d positions",
		what, p.MaxDelta, p.Limit, p.MaxKL, p.LimitKL, p.MeanKL, p.LimitMeanKL, p.Positions)
}

func differs(format string, args ...any) *contract.Error {
	return &contract.Error{
		Class: contract.ClassInternal, Code: "EXPORT_DIFFERS", Message: fmt.Sprintf(format, args...),
		Hint: "the adapter is whole and can be used; if its weights are very large, train with a lower learning rate, export from an F32 base model, or leave the format out of export.gguf",
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
