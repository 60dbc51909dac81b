package export

import (
	"encoding/json"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/sample"
)

// trained is what a card says of the training stage's output.
type trained struct {
	Engine        string   `json:"engine"`
	Steps         int      `json:"steps"`
	Epochs        float64  `json:"epochs"` // passes over the data that were made
	ExportedStep  int      `json:"exported_step"`
	EarlyStopped  bool     `json:"early_stopped"`
	LearningRate  float64  `json:"learning_rate"`
	BatchSize     int      `json:"batch_size"`
	GradientAccum int      `json:"gradient_accumulation"`
	PackingTokens int      `json:"packing_tokens"`
	BasePrecision string   `json:"base_precision"`
	Compute       string   `json:"compute"`
	Bits          []string `json:"bits"` // what computed it, one after the other

	Continued *continued `json:"continued_adapter"`
}

// continued is the adapter that the training went on from, and what came with it.
type continued struct {
	From          string   `json:"from"` // a job's id, or a folder's name
	SHA256        string   `json:"sha256"`
	Rank          int      `json:"rank"`
	Alpha         float64  `json:"alpha"`
	RSLoRA        bool     `json:"use_rslora"`
	TargetModules []string `json:"target_modules"`
}

// readTrained reads the output, if a stage left one.
func readTrained(output json.RawMessage) (done trained, ok bool) {
	if output == nil || json.Unmarshal(output, &done) != nil {
		return trained{}, false
	}
	return done, true
}

// auto is how the config spells a choice that is left to a stage.
const auto = "auto"

// settle fills in what the stages chose where the job left it open: by the data, the size
// of the model, the machine. What the job says stands.
func settle(c contract.Config, profile *dataset.Profile, prepared *sample.Summary, done *trained) contract.Config {
	if profile != nil {
		choose(&c.Dataset.Format, profile.Format.Kind)
	}
	if prepared != nil {
		if choose(&c.Template, prepared.Template); c.Template == auto {
			c.Template = "" // plain texts have none
		}
		choose(&c.TextColumn, prepared.InputColumn)
		choose(&c.LabelColumn, prepared.LabelColumn)
		choose(&c.Instruction, prepared.Instruction)
		choose(&c.Preprocessing.MaxLength, prepared.TokenLimit)
	}
	t := &c.Training
	if done != nil {
		choose(&t.Engine, done.Engine)
		choose(&t.LearningRate, done.LearningRate)
		choose(&t.BatchSize, done.BatchSize)
		choose(&t.GradientAccum, done.GradientAccum)
		choose(&t.PackingTokens, done.PackingTokens)
		choose(&t.BasePrecision, done.BasePrecision)
		choose(&t.Compute, done.Compute)
		if a := done.Continued; a != nil {
			t.InitAdapter, t.Rank, t.Alpha, t.RSLoRA, t.TargetModules = a.From, a.Rank, a.Alpha, a.RSLoRA, a.TargetModules
		}
		if t.Engine != "native" && t.Compute == auto {
			t.Compute = "" // a setting of native
		}
	}
	if t.OnDivergence == auto {
		t.OnDivergence = "warn"
	}
	// How a model is served is settled where it is served, and says nothing of its making.
	c.Inference = contract.InferenceConfig{}
	return c
}

// choose sets what was left open to what was chosen, if that is known.
func choose[T comparable](at *T, chosen T) {
	var none T
	if chosen != none && (*at == none || any(*at) == any(auto)) {
		*at = chosen
	}
}
