package engine

import (
	"context"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/model"
)

// Names of the engines, and auto: what suits the devices.
const (
	Auto   = "auto"
	Native = "native"
	PEFT   = "peft"
)

// OptimizerFile is a checkpoint's file of AdamW's moments, F32, flat, under the
// names exp_avg/TENSOR and exp_avg_sq/TENSOR. The tensors themselves stand beside
// it: adapter_model.safetensors of PEFT's layout for an adapter, all weights in
// model.safetensors for a full training, both in F32.
const OptimizerFile = "optimizer.safetensors"

// Engine trains one model. Its calls are made one after the other, and none is
// cut short: a stage that is told to stop lets the step end and saves.
type Engine interface {
	// Describe says what was opened.
	Describe() Description
	// Step makes one update from the sequences of all micro-batches. A loss or
	// norm that is not finite is returned and nothing is updated.
	Step(s Step) (Update, error)
	// Loss sums the loss over all targets of a batch, in nats, without a gradient.
	Loss(batch []model.Sequence) (sum float64, targets int, err error)
	// SaveState writes the trained tensors and OptimizerFile into dir with every
	// bit that the training goes on from.
	SaveState(dir string) error
	// LoadState is the reverse, for a state saved by any engine after so many
	// updates.
	LoadState(dir string, updates int64) error
	// Export writes the trained tensors as an artifact: an adapter's folder, or all
	// weights in the base model's dtype.
	Export(dir string) error
	// Close gives up all that the engine holds. It may be called at any time.
	Close() error
}

// Spec is what an engine opens.
type Spec struct {
	ModelName string // in the mesh; goes into adapter_config.json
	ModelDir  string // config.json and safetensors
	Shape     model.Config
	Training  contract.TrainingConfig // settled: nothing is left open
	Seed      uint64                  // of the adapter's first values and of dropout
	Initial   []adapter.Tensor        // the adapter's first values where it goes on from another; all that it has
	Origin    adapter.Origin          // is kept with the adapter
	Recompute bool                    // activations are computed twice rather than kept
	MaxTokens int                     // of the largest micro-batch
	Devices   contract.Devices
	// ScratchDir is deleted when the attempt ends.
	ScratchDir string
	// Emit takes what the engine has to say while it starts and works.
	Emit *contract.Emitter
}

// Open makes an engine ready. An engine that this node cannot run is a
// *contract.Error that says what to do about it.
type Open func(ctx context.Context, s Spec) (Engine, error)

// Description is what the stage reports of an engine.
type Description struct {
	Engine     string // native, peft
	Version    string // "torch 2.9.0, peft 0.18.0"; empty where it is the program's own
	Device     string // cpu, cuda:0 (NVIDIA L4), mps
	Arithmetic string // "weights BF16 as stored, arithmetic in F32"
	// Bits names what fixes the bits of the results: the engine, the way it computes
	// and the loops it does so by. Engines of one name give the same bits.
	Bits       string
	Threads    int
	Workers    int
	Trainable  int64 // parameters
	Parameters int64 // of the base model
	BaseBytes  int64 // that the base's weights take in memory; 0 where the engine does not say
}

// Measurer is an engine that knows its device's memory.
type Measurer interface {
	// PeakBytes is the most memory that was in use since Open: of the card, or
	// resident where the device is the CPU.
	PeakBytes() (int64, error)
}

// Step is one update.
type Step struct {
	Micro      [][]model.Sequence // micro-batches, whose gradients are summed
	FirstMicro uint64             // number of the first one since the start: dropout's choices follow from it
	Rate       float64            // learning rate
	MaxNorm    float64            // the gradient of the mean loss is clipped to it
}

// Update is what came of a step.
type Update struct {
	LossSum float64 // over all targets, nats
	Targets int
	Norm    float64 // of the mean loss's gradient, before clipping
	// Skipped: half-precision gradients overflowed, the engine lowers its loss
	// scale and leaves the weights as they were.
	Skipped bool
}
