package adapter

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// File names inside an adapter's folder.
const (
	ConfigName  = "adapter_config.json"
	WeightsName = "adapter_model.safetensors"
)

// Config is adapter_config.json. The fields are in PEFT's own order, which is
// alphabetical; those that every release since 0.9 knows are written, since
// older ones refuse a field that they do not know.
type Config struct {
	AlphaPattern      map[string]float64 `json:"alpha_pattern"`
	AutoMapping       *json.RawMessage   `json:"auto_mapping"`
	BaseModel         string             `json:"base_model_name_or_path"`
	Bias              string             `json:"bias"`
	FanInFanOut       bool               `json:"fan_in_fan_out"`
	InferenceMode     bool               `json:"inference_mode"`
	InitLoRAWeights   any                `json:"init_lora_weights"`
	LayerReplication  *json.RawMessage   `json:"layer_replication"`
	LayersPattern     *json.RawMessage   `json:"layers_pattern"`
	LayersToTransform *json.RawMessage   `json:"layers_to_transform"`
	Alpha             float64            `json:"lora_alpha"`
	Dropout           float64            `json:"lora_dropout"`
	ModulesToSave     []string           `json:"modules_to_save"`
	PEFTType          string             `json:"peft_type"`
	Rank              int                `json:"r"`
	RankPattern       map[string]int     `json:"rank_pattern"`
	Revision          *string            `json:"revision"`
	TargetModules     StringOrList       `json:"target_modules"`
	TaskType          string             `json:"task_type"`
	UseDoRA           bool               `json:"use_dora"`
	UseRSLoRA         bool               `json:"use_rslora"`

	Origin Origin `json:"-"` // not of this file: Save and Load have it with the weights
}

// NewConfig returns the config of a plain LoRA adapter of a causal language
// model.
func NewConfig(baseModel string, rank int, alpha, dropout float64, rsLoRA bool, targets []string) Config {
	return Config{
		AlphaPattern:    map[string]float64{},
		BaseModel:       baseModel,
		Bias:            "none",
		InferenceMode:   true,
		InitLoRAWeights: true,
		Alpha:           alpha,
		Dropout:         dropout,
		PEFTType:        "LORA",
		Rank:            rank,
		RankPattern:     map[string]int{},
		TargetModules:   targets,
		TaskType:        "CAUSAL_LM",
		UseRSLoRA:       rsLoRA,
	}
}

// Scaling is the factor of B·A in the adapted weight: alpha/r, or alpha/√r with
// rank-stabilised LoRA (arXiv 2312.03732).
func (c Config) Scaling() float64 {
	if c.UseRSLoRA {
		return c.Alpha / math.Sqrt(float64(c.Rank))
	}
	return c.Alpha / float64(c.Rank)
}

// Check says why this build cannot apply the adapter, or nil.
func (c Config) Check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("adapter: "+format, args...)
	}
	switch {
	case !strings.EqualFold(c.PEFTType, "LORA"):
		return fail("peft_type is %q, this build applies LORA only", c.PEFTType)
	case c.Rank < 1:
		return fail("r is %d, must be at least 1", c.Rank)
	case !(c.Alpha > 0) || math.IsInf(c.Alpha, 0):
		return fail("lora_alpha is %v, must be positive", c.Alpha)
	case changesBase(c.InitLoRAWeights):
		return fail("init_lora_weights is %q, by which the adapter belongs to changed base weights: let PEFT convert it (path_initial_model_for_weight_conversion of save_pretrained)", c.InitLoRAWeights)
	case c.UseDoRA:
		return fail("use_dora is set, which this build cannot apply")
	case c.Bias != "" && c.Bias != "none":
		return fail("bias is %q, this build applies none only", c.Bias)
	case c.FanInFanOut:
		return fail("fan_in_fan_out is set, which no Llama-like model has")
	case len(c.ModulesToSave) > 0:
		return fail("modules_to_save is %v, which this build cannot apply", c.ModulesToSave)
	case len(c.RankPattern) > 0 || len(c.AlphaPattern) > 0:
		return fail("rank_pattern and alpha_pattern are not supported")
	case len(c.TargetModules) == 0:
		return fail("target_modules is empty")
	}
	return nil
}

// changesBase says whether a way to make an adapter's first values takes something
// out of the base model's weights. (Of those that PEFT has, gaussian, eva and
// orthogonal do not.)
func changesBase(init any) bool {
	name, _ := init.(string)
	return slices.ContainsFunc([]string{"pissa", "olora", "corda", "loftq", "lora_ga"}, func(way string) bool { return strings.HasPrefix(name, way) })
}

// Encode gives the file's bytes: two spaces of indentation, keys sorted.
func (c Config) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("adapter: encode config: %w", err)
	}
	return append(data, '\n'), nil
}

// ReadConfig reads dir's adapter_config.json. Fields that it does not know are
// passed over, as PEFT itself does.
func ReadConfig(dir string) (Config, error) {
	data, err := os.ReadFile(filepath.Join(dir, ConfigName))
	if err != nil {
		return Config{}, fmt.Errorf("adapter: read config: %w", err)
	}
	return ParseConfig(data)
}

// ParseConfig decodes and checks the bytes of an adapter_config.json.
func ParseConfig(data []byte) (Config, error) {
	var c Config
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, fmt.Errorf("adapter: %s: %w", ConfigName, err)
	}
	return c, c.Check()
}

// StringOrList is a list that PEFT also accepts as one string, a regular
// expression or "all-linear".
type StringOrList []string

// UnmarshalJSON accepts "q_proj" as well as ["q_proj"].
func (l *StringOrList) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*l = []string{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(l))
}
