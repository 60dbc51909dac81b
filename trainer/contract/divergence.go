package contract

// Codes of the events with which a training says that it goes wrong: metrics
// and alerts know them by these names.
const (
	CodeDiverged           = "DIVERGED" // the loss is no number
	CodeLossExploding      = "LOSS_EXPLODING"
	CodeLossFlat           = "LOSS_FLAT"
	CodeThroughputCollapse = "THROUGHPUT_COLLAPSE"
	CodeStepStalled        = "STEP_STALLED"
)

// DivergenceCodes are all of them.
var DivergenceCodes = []string{CodeDiverged, CodeLossExploding, CodeLossFlat, CodeThroughputCollapse, CodeStepStalled}
