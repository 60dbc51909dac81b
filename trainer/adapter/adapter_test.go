package adapter_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

func sample() []adapter.Tensor {
	fill := func(n int, at float32) []float32 {
		s := make([]float32, n)
		for i := range s {
			s[i] = at + float32(i)/7
		}
		return s
	}
	q := "model.layers.0.self_attn.q_proj"
	return []adapter.Tensor{
		{Name: adapter.NameB(q), Rows: 6, Cols: 2, Data: fill(12, -1)},
		{Name: adapter.NameA(q), Rows: 2, Cols: 4, Data: fill(8, 0.5)},
	}
}

func TestAdapterIsWrittenAsPEFTNamesIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "adapter")
	cfg := adapter.NewConfig("tunemesh-mini", 2, 4, 0.1, false, []string{"q_proj"})
	if err := adapter.Save(dir, cfg, sample()); err != nil {
		t.Fatal(err)
	}

	data, err := os.ReadFile(filepath.Join(dir, "adapter_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "r": 2.0, "lora_alpha": 4.0,
		"lora_dropout": 0.1, "use_rslora": false, "base_model_name_or_path": "tunemesh-mini",
		"inference_mode": true, "fan_in_fan_out": false,
	} {
		if fields[key] != want {
			t.Errorf("%s = %v, want %v", key, fields[key], want)
		}
	}

	file, err := weights.Open(filepath.Join(dir, "adapter_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	want := []string{
		"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
		"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
	}
	if got := file.Names(); !slices.Equal(got, want) {
		t.Errorf("tensors %v, want %v", got, want)
	}
	if dtype, shape, _, _ := file.Tensor(want[1]); dtype != "F32" || !slices.Equal(shape, []int{6, 2}) {
		t.Errorf("lora_B is %s %v, want F32 [6 2]", dtype, shape)
	}
}

func TestAdapterRoundTripsBitForBit(t *testing.T) {
	dir := t.TempDir()
	cfg := adapter.NewConfig("m", 2, 4, 0, true, []string{"q_proj"})
	cfg.Origin = adapter.Origin{BaseSHA256: "ab", Continues: "01JDCK3V5W8M2N4P6Q7R8S9T0V", ContinuesSHA256: "cd"}
	if err := adapter.Save(dir, cfg, sample()); err != nil {
		t.Fatal(err)
	}
	got, tensors, err := adapter.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(got.Scaling()-4/math.Sqrt2) > 1e-12 {
		t.Errorf("rslora scaling %v, want %v", got.Scaling(), 4/math.Sqrt2)
	}
	if got.Origin != cfg.Origin {
		t.Errorf("it comes from %+v, want %+v", got.Origin, cfg.Origin)
	}
	want := sample()
	slices.Reverse(want) // by name: A goes before B
	for i, tensor := range tensors {
		if tensor.Name != want[i].Name || !slices.Equal(tensor.Data, want[i].Data) {
			t.Errorf("tensor %d is %s %v, want %s %v", i, tensor.Name, tensor.Data, want[i].Name, want[i].Data)
		}
	}
}

func TestAdapterThatCannotBeAppliedIsRefused(t *testing.T) {
	half := sample()[:1]
	dir := t.TempDir()
	if err := adapter.Save(dir, adapter.NewConfig("m", 2, 4, 0, false, []string{"q_proj"}), half); err != nil {
		t.Fatal(err)
	}
	if _, _, err := adapter.Load(dir); err == nil {
		t.Error("an adapter with B and no A was accepted")
	}
	for name, text := range map[string]string{
		"other method": `{"peft_type":"LOHA","r":2,"lora_alpha":2,"target_modules":["q_proj"]}`,
		"no rank":      `{"peft_type":"LORA","lora_alpha":2,"target_modules":["q_proj"]}`,
		"pissa":        `{"peft_type":"LORA","r":2,"lora_alpha":2,"init_lora_weights":"pissa_niter_16","target_modules":["q_proj"]}`,
		"dora":         `{"peft_type":"LORA","r":2,"lora_alpha":2,"use_dora":true,"target_modules":["q_proj"]}`,
		"patterns":     `{"peft_type":"LORA","r":2,"lora_alpha":2,"rank_pattern":{"q":4},"target_modules":["q_proj"]}`,
		"not JSON":     `r=8`,
	} {
		if _, err := adapter.ParseConfig([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := adapter.ParseConfig([]byte(`{"peft_type":"LORA","r":2,"lora_alpha":2,"target_modules":"all-linear","peft_version":"0.21.2","lora_bias":false}`)); err != nil {
		t.Errorf("a config of a newer PEFT: %v", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"peft_type":"LORA","r":8,"lora_alpha":16,"target_modules":["q_proj"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := adapter.ParseConfig(data)
		if err == nil && !(cfg.Scaling() > 0) {
			t.Errorf("accepted a config with scaling %v", cfg.Scaling())
		}
	})
}
