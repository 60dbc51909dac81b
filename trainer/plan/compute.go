package plan

import "github.com/tunemesh/tunemesh/trainer/contract"

// computeOf settles how products with the frozen weights are computed, and says
// why where the config does not: c has its settled base precision. Auto is f32 on
// every processor, so that a job gives the same result wherever it is placed.
func computeOf(c contract.TrainingConfig, m Machine) (compute, reason string) {
	switch {
	case c.Compute == "f32":
		return "f32", ""
	case c.Method == "full":
		return "f32", "all weights are trained, in f32"
	case c.Compute == "bf16" && c.BasePrecision == "bf16":
		return "bf16", withoutPairs(m)
	case c.BasePrecision != "bf16":
		return "f32", "only weights in bf16 are multiplied in it, and the base's are " + c.BasePrecision
	case m.BF16:
		return "f32", "most exact; this processor has AVX512_BF16, with which bf16 takes two thirds of the time and changes losses in the third digit"
	}
	return "f32", "most exact"
}

// withoutPairs says what bf16 means for a processor that has no instruction for it;
// nothing for one that has.
func withoutPairs(m Machine) string {
	switch {
	case m.BF16 || m.Kernels == "":
		return ""
	case m.Kernels == PureGo:
		return "this processor has no AVX512_BF16: it rounds as one that has, slower than in f32, and adds up in loops of its own, whose last bits differ"
	}
	return "this processor has no AVX512_BF16: it computes the same bits as one that has, slower than in f32"
}
