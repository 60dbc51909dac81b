package tunedtest

import (
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/preprocessing"
)

// Families makes the tiny base model one of each architecture but Llama. Windows are
// shorter than a sample, and of Gemma 3 one layer sees all.
func Families() map[string]func(*model.Config) {
	window := 24
	of := func(name, kind string) func(*model.Config) {
		return func(c *model.Config) { c.Architectures, c.ModelType = []string{name}, kind }
	}
	return map[string]func(*model.Config){
		"MistralForCausalLM": func(c *model.Config) {
			of("MistralForCausalLM", "mistral")(c)
			c.SlidingWindow, c.TieWordEmbeddings = &window, false
		},
		"Qwen2ForCausalLM": of("Qwen2ForCausalLM", "qwen2"),
		"Qwen3ForCausalLM": func(c *model.Config) {
			of("Qwen3ForCausalLM", "qwen3")(c)
			c.HeadDim = 16
		},
		"Gemma3ForCausalLM": func(c *model.Config) {
			of("Gemma3ForCausalLM", "gemma3_text")(c)
			c.HiddenAct, c.NumLayers, c.SlidingWindow = "gelu_pytorch_tanh", 7, &window
			c.RopeTheta, c.RopeLocalTheta, c.QueryScalar = 1e6, 10000, 8
			for l := range c.NumLayers {
				c.LayerTypes = append(c.LayerTypes, map[bool]string{true: "full_attention", false: "sliding_attention"}[l%6 == 5])
			}
		},
	}
}

// JobOf is Job with a base model whose shape change alters.
func JobOf(t testing.TB, data []byte, config, dtype string, change func(*model.Config)) contract.Input {
	t.Helper()
	in := stagetest.Input(t, "dataset", "tickets.csv", data, config)
	dir := t.TempDir()
	writeModel(t, dir, data, dtype, change)
	AddTree(t, &in, contract.ModelInputs, "", dir)
	in = stage(t, in, dataset.Run, "preprocessing")
	return stage(t, in, preprocessing.Run, "after")
}
