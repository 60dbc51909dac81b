package export

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// The card has the batch and the learning rate that training chose, where the job left
// them open; what the job says stands.
func TestTheCardHasWhatTrainingChose(t *testing.T) {
	output := json.RawMessage(`{"learning_rate":0.002,"batch_size":4,"gradient_accumulation":2}`)
	got := settled(contract.TrainingConfig{}, output)
	if got.LearningRate != 0.002 || got.BatchSize != 4 || got.GradientAccum != 2 {
		t.Errorf("open: %+v", got)
	}
	text := Card{Settings: contract.Config{Training: got}}.readme("LoRA", "")
	if !strings.Contains(text, "- batches of 8\n") || !strings.Contains(text, "peak learning rate 0.002") {
		t.Errorf("README:\n%s", text)
	}
	given := contract.TrainingConfig{LearningRate: 0.1, BatchSize: 16, GradientAccum: 1}
	if got := settled(given, output); got.LearningRate != 0.1 || got.BatchSize != 16 || got.GradientAccum != 1 {
		t.Errorf("given: %+v", got)
	}
	if got := settled(given, nil); got.BatchSize != 16 {
		t.Errorf("without an output: %+v", got)
	}
}
