package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Tasks that the built-in stages know.
var Tasks = []string{"classification", "chat", "summarization", "qa", "extraction", "completion"}

// TargetModules that LoRA can be attached to.
var TargetModules = []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

// Computes are the ways in which products with frozen weights are computed.
var Computes = []string{"auto", "f32", "bf16"}

// Precisions that the frozen weights of the base may have in memory.
var Precisions = []string{"auto", "f32", "bf16", "int8", "int4"}

// Config is the job's config as the built-in stages read it. A field that the
// document leaves out, or that is null, has its default, which WithDefaults fills
// in; a zero that the document holds is a zero.
type Config struct {
	Task  string `json:"task,omitempty" doc:"classification, chat, summarization, qa, extraction or completion" example:"classification"`
	Model string `json:"model,omitempty" doc:"base model's name in the mesh" example:"tunemesh-mini"`
	Seed  uint64 `json:"seed,omitempty" doc:"seed of split, shuffle and adapter initialisation; default 42"`

	TextColumn  string `json:"text_column,omitempty" doc:"input column; found by name and content if empty; completion: its texts are learned whole if no column completes them"`
	LabelColumn string `json:"label_column,omitempty" doc:"target column; found by name and content if empty"`
	Instruction string `json:"instruction,omitempty" doc:"what the model is told to do; a default per task if empty"`
	Template    string `json:"template,omitempty" doc:"auto, chatml, llama, alpaca or zephyr"`

	Dataset       DatasetConfig       `json:"dataset,omitzero"`
	Validation    ValidationConfig    `json:"validation,omitzero"`
	Preprocessing PreprocessingConfig `json:"preprocessing,omitzero"`
	Training      TrainingConfig      `json:"training,omitzero"`
	Evaluation    EvaluationConfig    `json:"evaluation,omitzero"`
	Export        ExportConfig        `json:"export,omitzero"`
	Inference     InferenceConfig     `json:"inference,omitzero"`

	given given // nil for a config that was not parsed
}

// DatasetConfig says how to read the file.
type DatasetConfig struct {
	Format       string `json:"format,omitempty" doc:"auto, csv, tsv or jsonl"`
	MaxCellBytes int64  `json:"max_cell_bytes,omitempty" doc:"largest cell accepted; default 1 MiB"`
	MaxRows      int64  `json:"max_rows,omitempty" doc:"most rows accepted; default 10,000,000"`
}

// ValidationConfig sets what makes data unfit.
type ValidationConfig struct {
	MaxMissingFraction float64 `json:"max_missing_fraction,omitempty" doc:"most rows that may lack text or label; default 0.2"`
	MinRows            int64   `json:"min_rows,omitempty" doc:"fewest usable rows; default 1"`
	MaxClasses         int     `json:"max_classes,omitempty" doc:"most classes; default 200"`
}

// PreprocessingConfig sets cleaning, splitting and tokenization.
type PreprocessingConfig struct {
	PII                string  `json:"pii,omitempty" doc:"personal data: redact, warn or keep"`
	KeepDuplicates     bool    `json:"keep_duplicates,omitempty" doc:"train on repeated rows too"`
	MaxLength          int     `json:"max_length,omitempty" doc:"most tokens of a sample; as long as the data needs, at most the model's context, if not given"`
	TestFraction       float64 `json:"test_fraction,omitempty" doc:"part of the rows held out for the evaluation"`
	ValidationFraction float64 `json:"validation_fraction,omitempty" doc:"part of the rows for the loss during training"`
}

// TrainingConfig sets the training.
type TrainingConfig struct {
	Method              string   `json:"method,omitempty" doc:"lora or full"`
	Rank                int      `json:"rank,omitempty" doc:"rank of the LoRA matrices"`
	Alpha               float64  `json:"alpha,omitempty" doc:"LoRA scale: alpha/rank; twice the rank if not given"`
	Dropout             float64  `json:"dropout,omitempty" doc:"of the adapter's input; default 0"`
	RSLoRA              bool     `json:"use_rslora,omitempty" doc:"scale by alpha/sqrt(rank) instead of alpha/rank (arXiv 2312.03732)"`
	TargetModules       []string `json:"target_modules,omitempty" doc:"all-linear, or names of modules: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"`
	InitAdapter         string   `json:"init_adapter,omitempty" doc:"adapter to go on from, in place of a new one: the id of a job that trained one on the same base model; for a stage that is started by hand, a folder in PEFT's layout. rank, alpha, use_rslora and target_modules are then the adapter's"`
	Epochs              int      `json:"epochs,omitempty" doc:"passes over the training split"`
	MaxSteps            int      `json:"max_steps,omitempty" doc:"ends training after so many steps; epochs decide if not given"`
	BatchSize           int      `json:"batch_size,omitempty" doc:"samples of a micro-batch; if not given, what fits into the memory, at most 8"`
	GradientAccum       int      `json:"gradient_accumulation,omitempty" doc:"micro-batches per optimizer step; if neither it nor batch_size is given, so many that a step has 8 samples"`
	PackingTokens       int      `json:"packing_tokens,omitempty" doc:"packs the samples of a step (batch_size times gradient_accumulation) into micro-batches of at most so many tokens, in place of batch_size samples each; a longer sample goes alone. If neither it nor batch_size is given, short samples are packed where 8 of the longest do not fit into the memory"`
	LearningRate        float64  `json:"learning_rate,omitempty" doc:"peak of the schedule; if not given, by the size of the base model: 0.002 below 20 million parameters, 0.0005 below a billion, 0.0002 above"`
	Schedule            string   `json:"schedule,omitempty" doc:"cosine, linear or constant"`
	WarmupRatio         float64  `json:"warmup_ratio,omitempty" doc:"part of the steps in which the learning rate rises"`
	WeightDecay         float64  `json:"weight_decay,omitempty" doc:"decoupled, of AdamW; default 0"`
	MaxGradNorm         float64  `json:"max_grad_norm,omitempty" doc:"gradients are clipped to this global norm; 0 for never"`
	CheckpointSteps     int      `json:"checkpoint_steps,omitempty" doc:"steps between checkpoints beside those of each epoch; default 25"`
	LoggingSteps        int      `json:"logging_steps,omitempty" doc:"steps between metric events"`
	EvaluationsPerEpoch int      `json:"evaluations_per_epoch,omitempty" doc:"passes over the validation split; default 1"`
	Engine              string   `json:"engine,omitempty" doc:"what computes: auto, native or peft; auto is peft where the stage reserves a GPU, else native" example:"native"`
	Workers             int      `json:"workers,omitempty" doc:"processes of the engine peft, one GPU each, which share every batch; default 1"`
	Sharding            string   `json:"sharding,omitempty" doc:"none, where each worker has the whole model, or fsdp, where each keeps a part of it"`
	MaxEvalSamples      int      `json:"max_eval_samples,omitempty" doc:"most validation samples of one such pass, drawn by the seed"`
	BasePrecision       string   `json:"base_precision,omitempty" doc:"of the frozen weights in memory: auto, f32, bf16, int8 or int4; auto is as stored, or what fits"`
	Compute             string   `json:"compute,omitempty" doc:"of the engine native: auto, f32 or bf16. With bf16, products with frozen weights that are bf16 in memory round activations and their gradients to bf16, and sums stay f32: faster on processors with AVX512_BF16, slower on others; auto is f32"`
	Patience            int      `json:"early_stopping_patience,omitempty" doc:"training ends after so many evaluations without a better loss; never if not given"`
	MinDelta            float64  `json:"early_stopping_min_delta,omitempty" doc:"a loss is better if it is lower by more than this, nats; default 0"`
	LoadBest            bool     `json:"load_best,omitempty" doc:"what goes out is the state of the lowest validation loss, not the last one"`
	OnDivergence        string   `json:"on_divergence,omitempty" doc:"auto, warn or stop: whether a loss that explodes or stays flat, or a throughput that collapses, ends the stage; auto warns. A loss that is no number ends it in any case"`
}

// EvaluationConfig sets the evaluation.
type EvaluationConfig struct {
	MaxSamples    int `json:"max_samples,omitempty" doc:"held-out samples used; all if not given"`
	SampleAnswers int `json:"sample_answers,omitempty" doc:"answers shown before and after; default 3"`
}

// ExportConfig sets what is exported.
type ExportConfig struct {
	SkipMerged bool     `json:"skip_merged,omitempty" doc:"export the adapter alone"`
	GGUF       []string `json:"gguf,omitempty" doc:"GGUF types: f16, bf16, f32, q8_0, q4_k_m"`
}

// FieldError is one fault of a config, with the field's path.
type FieldError struct {
	Field   string
	Message string
}

func (e FieldError) Error() string { return e.Field + ": " + e.Message }

// ParseConfig decodes a job's config. With strict set, as at the API, an
// unknown field is an error that names it; a stage is lenient, since the
// pipeline may carry keys for custom stages.
func ParseConfig(data []byte, strict bool) (Config, error) {
	var c Config
	if len(bytes.TrimSpace(data)) == 0 {
		return c, nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if strict {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(&c); err != nil {
		var typeErr *json.UnmarshalTypeError
		if errors.As(err, &typeErr) {
			return c, FieldError{typeErr.Field, fmt.Sprintf("is a %s, want %s", typeErr.Value, typeErr.Type)}
		}
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return c, FieldError{unknownPath(data, strings.Trim(name, `"`)), "is not a field of the config"}
		}
		return c, fmt.Errorf("config: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return c, fmt.Errorf("config: more than one JSON value")
	}
	c.given = givenIn(data)
	return c, nil
}

// WithDefaults returns c with every field that was left out at its default.
func (c Config) WithDefaults() Config {
	g := c.given
	text(&c.Task, "classification")
	def(g, "seed", &c.Seed, 42)
	text(&c.Template, "auto")
	text(&c.Dataset.Format, "auto")
	def(g, "dataset.max_cell_bytes", &c.Dataset.MaxCellBytes, 1<<20)
	def(g, "dataset.max_rows", &c.Dataset.MaxRows, 10_000_000)
	def(g, "validation.max_missing_fraction", &c.Validation.MaxMissingFraction, 0.2)
	def(g, "validation.min_rows", &c.Validation.MinRows, 1)
	def(g, "validation.max_classes", &c.Validation.MaxClasses, 200)
	text(&c.Preprocessing.PII, "redact")
	def(g, "preprocessing.test_fraction", &c.Preprocessing.TestFraction, 0.15)
	def(g, "preprocessing.validation_fraction", &c.Preprocessing.ValidationFraction, 0.05)
	c.Training.defaults(g)
	c.Training.engineDefaults()
	def(g, "evaluation.sample_answers", &c.Evaluation.SampleAnswers, 3)
	if len(c.Export.GGUF) == 0 {
		c.Export.GGUF = []string{"f16", "q8_0", "q4_k_m"}
	}
	text(&c.Inference.Address, "127.0.0.1:0")
	text(&c.Inference.Precision, "auto")
	def(g, "inference.concurrent", &c.Inference.Concurrent, 4)
	return c
}

// defaults leaves batch size, accumulation and learning rate open where they
// follow from model and machine: trainer/plan settles them.
func (t *TrainingConfig) defaults(g given) {
	text(&t.Method, "lora")
	def(g, "training.rank", &t.Rank, 16)
	def(g, "training.alpha", &t.Alpha, 2*float64(max(t.Rank, 1)))
	if len(t.TargetModules) == 0 && !g.has("training.target_modules") {
		t.TargetModules = []string{"all-linear"}
	}
	def(g, "training.epochs", &t.Epochs, 4)
	text(&t.Schedule, "cosine")
	def(g, "training.warmup_ratio", &t.WarmupRatio, 0.05)
	def(g, "training.max_grad_norm", &t.MaxGradNorm, 1)
	def(g, "training.checkpoint_steps", &t.CheckpointSteps, 25)
	def(g, "training.logging_steps", &t.LoggingSteps, 10)
	def(g, "training.evaluations_per_epoch", &t.EvaluationsPerEpoch, 1)
	def(g, "training.max_eval_samples", &t.MaxEvalSamples, 512)
	text(&t.BasePrecision, "auto")
	text(&t.Compute, "auto")
	def(g, "training.load_best", &t.LoadBest, true)
	text(&t.OnDivergence, "auto")
}

// Validate returns every fault of a config that has its defaults.
func (c Config) Validate() []FieldError {
	var faults []FieldError
	fail := func(field, format string, args ...any) {
		faults = append(faults, FieldError{field, fmt.Sprintf(format, args...)})
	}
	oneOf := func(field, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			fail(field, "is %q, want one of %s", value, strings.Join(allowed, ", "))
		}
	}
	between := func(field string, value, low, high float64) {
		if !(value >= low && value <= high) {
			fail(field, "is %v, want %v to %v", value, low, high)
		}
	}
	// open is between for fields that may be left out without a default.
	open := func(field string, value, low, high float64) {
		if value != 0 || c.given.has(field) {
			between(field, value, low, high)
		}
	}
	oneOf("task", c.Task, Tasks...)
	oneOf("template", c.Template, "auto", "chatml", "llama", "alpaca", "zephyr")
	oneOf("dataset.format", c.Dataset.Format, "auto", "csv", "tsv", "jsonl")
	between("dataset.max_cell_bytes", float64(c.Dataset.MaxCellBytes), 1, 64<<20)
	between("dataset.max_rows", float64(c.Dataset.MaxRows), 1, 1e9)
	between("validation.max_missing_fraction", c.Validation.MaxMissingFraction, 0, 1)
	between("validation.min_rows", float64(c.Validation.MinRows), 1, 1e9)
	between("validation.max_classes", float64(c.Validation.MaxClasses), 2, 100_000)
	oneOf("preprocessing.pii", c.Preprocessing.PII, "redact", "warn", "keep")
	open("preprocessing.max_length", float64(c.Preprocessing.MaxLength), 1, 1<<20)
	between("preprocessing.test_fraction", c.Preprocessing.TestFraction, 0.01, 0.9)
	between("preprocessing.validation_fraction", c.Preprocessing.ValidationFraction, 0.01, 0.9)
	if sum := c.Preprocessing.TestFraction + c.Preprocessing.ValidationFraction; sum > 0.95 {
		fail("preprocessing.test_fraction", "and validation_fraction leave %.2f for training", 1-sum)
	}
	t := c.Training
	oneOf("training.method", t.Method, "lora", "full")
	between("training.rank", float64(t.Rank), 1, 1024)
	between("training.alpha", t.Alpha, 1e-6, 1e6)
	between("training.dropout", t.Dropout, 0, 0.95)
	if len(t.TargetModules) == 0 {
		fail("training.target_modules", "names no module")
	}
	for i, m := range t.TargetModules {
		if m == "all-linear" && len(t.TargetModules) == 1 {
			continue
		}
		oneOf(fmt.Sprintf("training.target_modules[%d]", i), m, TargetModules...)
	}
	if t.InitAdapter != "" && t.Method == "full" {
		fail("training.init_adapter", "is %q, but method full trains the weights themselves: want method lora, or no adapter", t.InitAdapter)
	}
	t.engineFaults(fail)
	between("training.epochs", float64(t.Epochs), 1, 10_000)
	open("training.max_steps", float64(t.MaxSteps), 1, 1e9)
	open("training.batch_size", float64(t.BatchSize), 1, 4096)
	open("training.gradient_accumulation", float64(t.GradientAccum), 1, 4096)
	open("training.packing_tokens", float64(t.PackingTokens), 1, 1<<24)
	open("training.learning_rate", t.LearningRate, 1e-12, 1)
	oneOf("training.schedule", t.Schedule, "cosine", "linear", "constant")
	between("training.warmup_ratio", t.WarmupRatio, 0, 1)
	between("training.weight_decay", t.WeightDecay, 0, 1)
	if t.MaxGradNorm != 0 {
		between("training.max_grad_norm", t.MaxGradNorm, 1e-6, 1e6)
	}
	between("training.checkpoint_steps", float64(t.CheckpointSteps), 1, 1e9)
	between("training.logging_steps", float64(t.LoggingSteps), 1, 1e9)
	between("training.evaluations_per_epoch", float64(t.EvaluationsPerEpoch), 1, 1000)
	between("training.max_eval_samples", float64(t.MaxEvalSamples), 1, 1e9)
	oneOf("training.base_precision", t.BasePrecision, Precisions...)
	if t.Method == "full" && t.BasePrecision != "auto" && t.BasePrecision != "f32" {
		fail("training.base_precision", "is %q, but method full trains the weights themselves, in f32", t.BasePrecision)
	}
	oneOf("training.compute", t.Compute, Computes...)
	if t.Method == "full" && t.Compute == "bf16" {
		fail("training.compute", "is %q, but method full has no frozen weights, and trains in f32", t.Compute)
	}
	open("training.early_stopping_patience", float64(t.Patience), 1, 1e6)
	between("training.early_stopping_min_delta", t.MinDelta, 0, 1e3)
	oneOf("training.on_divergence", t.OnDivergence, "auto", "warn", "stop")
	open("evaluation.max_samples", float64(c.Evaluation.MaxSamples), 1, 1e9)
	between("evaluation.sample_answers", float64(c.Evaluation.SampleAnswers), 0, 100)
	for i, q := range c.Export.GGUF {
		oneOf(fmt.Sprintf("export.gguf[%d]", i), q, "f16", "bf16", "f32", "q8_0", "q4_k_m")
	}
	c.Inference.faults(fail)
	between("inference.concurrent", float64(c.Inference.Concurrent), 1, 256)
	return faults
}
