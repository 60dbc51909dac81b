package model_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/model"
)

// published are the facts of config.json files as the models' publishers give them, with
// what matters left in.
var published = map[string]struct {
	config     string
	parameters int64
	window     int // of layer 0
	check      func(c model.Config) bool
}{
	"meta-llama/Llama-3.2-1B": {`{"architectures":["LlamaForCausalLM"],"attention_bias":false,"bos_token_id":128000,"eos_token_id":128001,"head_dim":64,
		"hidden_act":"silu","hidden_size":2048,"intermediate_size":8192,"max_position_embeddings":131072,"mlp_bias":false,"model_type":"llama",
		"num_attention_heads":32,"num_hidden_layers":16,"num_key_value_heads":8,"rms_norm_eps":1e-05,"rope_scaling":{"factor":32.0,"high_freq_factor":4.0,
		"low_freq_factor":1.0,"original_max_position_embeddings":8192,"rope_type":"llama3"},"rope_theta":500000.0,"tie_word_embeddings":true,
		"torch_dtype":"bfloat16","vocab_size":128256}`, 1235814400, 0,
		func(c model.Config) bool { return c.RopeScaling.Kind == "llama3" && c.RopeScaling.Factor == 32 }},
	"mistralai/Mistral-7B-v0.1": {`{"architectures":["MistralForCausalLM"],"bos_token_id":1,"eos_token_id":2,"hidden_act":"silu","hidden_size":4096,
		"intermediate_size":14336,"max_position_embeddings":32768,"model_type":"mistral","num_attention_heads":32,"num_hidden_layers":32,
		"num_key_value_heads":8,"rms_norm_eps":1e-05,"rope_theta":10000.0,"sliding_window":4096,"tie_word_embeddings":false,"torch_dtype":"bfloat16",
		"vocab_size":32000}`, 7241732096, 4096, func(c model.Config) bool { return c.HeadDim == 128 }},
	"mistralai/Mistral-Nemo-Base-2407": {`{"architectures":["MistralForCausalLM"],"bos_token_id":1,"eos_token_id":2,"head_dim":128,"hidden_act":"silu","hidden_size":5120,
		"intermediate_size":14336,"max_position_embeddings":131072,"model_type":"mistral","num_attention_heads":32,"num_hidden_layers":40,
		"num_key_value_heads":8,"rms_norm_eps":1e-05,"rope_theta":1000000.0,"sliding_window":null,"tie_word_embeddings":false,"torch_dtype":"bfloat16",
		"vocab_size":131072}`, 12247782400, 0, func(c model.Config) bool { return c.HeadDim == 128 && c.SlidingWindow == nil }},
	"Qwen/Qwen2.5-0.5B": {`{"architectures":["Qwen2ForCausalLM"],"bos_token_id":151643,"eos_token_id":151643,"hidden_act":"silu","hidden_size":896,
		"intermediate_size":4864,"max_position_embeddings":32768,"max_window_layers":24,"model_type":"qwen2","num_attention_heads":14,"num_hidden_layers":24,
		"num_key_value_heads":2,"rms_norm_eps":1e-06,"rope_theta":1000000.0,"sliding_window":32768,"tie_word_embeddings":true,"torch_dtype":"bfloat16",
		"use_mrope":false,"use_sliding_window":false,"vocab_size":151936}`, 494032768, 0, func(c model.Config) bool { return c.HeadDim == 64 && c.SlidingWindow == nil }},
	"Qwen/Qwen3-0.6B": {`{"architectures":["Qwen3ForCausalLM"],"attention_bias":false,"bos_token_id":151643,"eos_token_id":151645,"head_dim":128,
		"hidden_act":"silu","hidden_size":1024,"intermediate_size":3072,"max_position_embeddings":40960,"max_window_layers":28,"model_type":"qwen3",
		"num_attention_heads":16,"num_hidden_layers":28,"num_key_value_heads":8,"rms_norm_eps":1e-06,"rope_scaling":null,"rope_theta":1000000,
		"sliding_window":null,"tie_word_embeddings":true,"torch_dtype":"bfloat16","use_sliding_window":false,"vocab_size":151936}`, 596049920, 0,
		func(c model.Config) bool { return c.HeadDim == 128 }},
	"google/gemma-3-1b-pt": {`{"architectures":["Gemma3ForCausalLM"],"attention_bias":false,"attn_logit_softcapping":null,"bos_token_id":2,"cache_implementation":"hybrid",
		"eos_token_id":1,"final_logit_softcapping":null,"head_dim":256,"hidden_activation":"gelu_pytorch_tanh","hidden_size":1152,"intermediate_size":6912,
		"max_position_embeddings":32768,"model_type":"gemma3_text","num_attention_heads":4,"num_hidden_layers":26,"num_key_value_heads":1,"pad_token_id":0,
		"query_pre_attn_scalar":256,"rms_norm_eps":1e-06,"rope_local_base_freq":10000,"rope_scaling":null,"rope_theta":1000000,"sliding_window":512,
		"sliding_window_pattern":6,"torch_dtype":"bfloat16","vocab_size":262144}`, 999885952, 512,
		func(c model.Config) bool {
			return c.TieWordEmbeddings && c.LayerTypes[5] == "full_attention" && c.LayerTypes[25] == "sliding_attention" && c.QueryScalar == 256
		}},
}

func TestPublishedConfigsAreUnderstood(t *testing.T) {
	for name, p := range published {
		c, err := model.ParseConfig([]byte(p.config))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		window := 0
		if c.SlidingWindow != nil && (len(c.LayerTypes) == 0 || c.LayerTypes[0] == "sliding_attention") {
			window = *c.SlidingWindow
		}
		if c.NumParams() != p.parameters || window != p.window || !p.check(c) {
			t.Errorf("%s: %d parameters, want %d; window %d, want %d; %+v", name, c.NumParams(), p.parameters, window, p.window, c)
		}
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := model.ParseConfig(data); err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("%s, written and read again: %+v, %v", name, again, err)
		}
	}
}

// What an architecture's family can have and the engine does not compute is refused by
// name.
func TestPropertiesOfOtherModelsAreRefused(t *testing.T) {
	for _, c := range []struct{ name, change, says string }{
		{"mistralai/Mistral-7B-v0.1", `"sliding_window":0`, "sliding_window"},
		{"mistralai/Mistral-7B-v0.1", `"rope_scaling":{"type":"yarn","factor":4}`, "yarn"},
		{"Qwen/Qwen2.5-0.5B", `"use_sliding_window":true,"sliding_window":4096,"max_window_layers":12`, "use_sliding_window"},
		{"Qwen/Qwen2.5-0.5B", `"layer_types":["sliding_attention"]`, "layer_types"},
		{"Qwen/Qwen2.5-0.5B", `"rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32768}`, "yarn"},
		{"Qwen/Qwen3-0.6B", `"attention_bias":true`, "attention_bias"},
		{"Qwen/Qwen3-0.6B", `"hidden_act":"gelu"`, "gelu"},
		{"google/gemma-3-1b-pt", `"final_logit_softcapping":30.0`, "final_logit_softcapping"},
		{"google/gemma-3-1b-pt", `"attn_logit_softcapping":50.0`, "attn_logit_softcapping"},
		{"google/gemma-3-1b-pt", `"use_bidirectional_attention":true`, "use_bidirectional_attention"},
		{"google/gemma-3-1b-pt", `"layer_types":["chunked_attention"]`, "layer_types"},
		{"google/gemma-3-1b-pt", `"num_hidden_layers":1,"layer_types":["chunked_attention"]`, "chunked_attention"},
		{"google/gemma-3-1b-pt", `"sliding_window":null`, "sliding_window is null"},
		{"google/gemma-3-1b-pt", `"hidden_activation":"silu"`, "silu"},
		{"google/gemma-3-1b-pt", `"query_pre_attn_scalar":0`, "query_pre_attn_scalar"},
		{"google/gemma-3-1b-pt", `"rope_local_base_freq":0.5`, "rope_local_base_freq"},
		{"google/gemma-3-1b-pt", `"rope_parameters":{"full_attention":{"rope_type":"default"},"sliding_attention":{"rope_type":"linear","factor":2.0}}`, "sliding_attention"},
		{"google/gemma-3-1b-pt", `"architectures":["Gemma3ForConditionalGeneration"]`, "without images"},
		{"google/gemma-3-1b-pt", `"architectures":["Gemma2ForCausalLM"]`, "Gemma2ForCausalLM"},
	} {
		data := strings.TrimSuffix(published[c.name].config, "}") + "," + c.change + "}" // the last of two equal keys counts
		if _, err := model.ParseConfig([]byte(data)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s with %s: error %v", c.name, c.change, err)
		}
	}
}
