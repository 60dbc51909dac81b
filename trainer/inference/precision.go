package inference

import (
	"fmt"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/plan"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// precisions are the forms in which a model is served, by the names that users give:
// stored, as the weights are; f32; bf16; and q8, which rounds them and what they are
// multiplied with to 8 bits and is faster.
var precisions = map[string]model.Precision{"stored": model.Stored, "f32": model.F32, "bf16": model.BF16, "q8": model.Q8}

// Settled is the precision that a model is served in, and why.
type Settled struct {
	Precision string // what Load takes
	Reason    string
	// Weights are the bytes of the weights in memory, mapped ones included. Request is
	// what the keys and values of one request take whose text fills the context.
	Weights, Request int64
}

// String is the line that a user reads.
func (s Settled) String() string {
	return fmt.Sprintf("precision is %s: %s; the weights take %s, a request up to %s", s.Precision, s.Reason, plan.Bytes(s.Weights), plan.Bytes(s.Request))
}

const (
	// servedTokens is the length of the texts that auto reserves memory for.
	servedTokens = 2048
	programBytes = 64 << 20
)

// Settle chooses the precision for auto: as the weights are stored, where that, and the keys
// and values of concurrent requests of up to 2,048 tokens, fit into free bytes (0: unknown);
// else bf16, else q8. If nothing fits it is an error of the class resources. A precision that
// is named is taken without a look at the memory.
func Settle(f tuned.Files, precision string, concurrent int, free int64) (Settled, error) {
	dir := f.Base
	if f.Full != "" {
		dir = f.Full
	}
	size, err := measure(dir)
	if err != nil {
		return Settled{}, err
	}
	as := func(p, reason string) (Settled, error) {
		return Settled{Precision: p, Reason: reason, Weights: size.weights(p), Request: size.keys(size.context)}, nil
	}
	if precision != "auto" {
		if _, ok := precisions[precision]; !ok {
			return Settled{}, fmt.Errorf("inference: no precision %q; there are %s", precision, strings.Join(contract.ServedPrecisions, ", "))
		}
		return as(precision, "as asked for")
	}
	if free == 0 {
		return as("stored", "exact; how much memory is free is not known")
	}
	need := func(p string) int64 {
		return size.weights(p) + int64(max(concurrent, 1))*size.keys(min(size.context, servedTokens)) + programBytes
	}
	if need("stored") <= free {
		return as("stored", fmt.Sprintf("exact, and within the %s that are free", plan.Bytes(free)))
	}
	for _, p := range []string{"bf16", "q8"} {
		if need(p) <= free {
			return as(p, fmt.Sprintf("as stored, %s would be needed, and %s are free", plan.Bytes(need("stored")), plan.Bytes(free)))
		}
	}
	return Settled{}, &contract.Error{Class: contract.ClassResources, Code: "OUT_OF_MEMORY", Field: "inference.precision",
		Message: fmt.Sprintf("the model needs %s even in 8 bits, and %s are free", plan.Bytes(need("q8")), plan.Bytes(free)),
		Hint:    "serve a smaller model or free memory; a precision that is named is tried whatever is free"}
}

// measured is what of a model its memory depends on.
type measured struct {
	vectors  int64            // values of norms and biases
	matrices map[string]int64 // values, by the dtype that they are stored in
	perToken int64            // values of the keys and values
	context  int
}

func measure(dir string) (measured, error) {
	cfg, err := tuned.Config(dir)
	if err != nil {
		return measured{}, err
	}
	files, err := weights.Open(dir)
	if err != nil {
		return measured{}, tuned.Unusable(err)
	}
	defer files.Close()
	m := measured{matrices: map[string]int64{}, perToken: int64(2 * cfg.NumLayers * cfg.NumKVHeads * cfg.HeadDim), context: cfg.MaxPositions}
	for _, spec := range cfg.Tensors() {
		if len(spec.Shape) != 2 {
			m.vectors += int64(spec.Len())
			continue
		}
		info, _ := files.Info(spec.Name) // what is missing, Load says
		m.matrices[info.DType] += int64(spec.Len())
	}
	return m, nil
}

func (m measured) weights(precision string) int64 {
	bytes := 4 * m.vectors
	for dtype, n := range m.matrices {
		switch {
		case precision == "q8":
			bytes += 9 * n / 8
		case precision == "bf16", precision == "stored" && dtype == weights.BF16:
			bytes += 2 * n
		default: // F16 is widened, since bfloat16 could not hold its fraction
			bytes += 4 * n
		}
	}
	return bytes
}

func (m measured) keys(tokens int) int64 { return 4 * m.perToken * int64(tokens) }
