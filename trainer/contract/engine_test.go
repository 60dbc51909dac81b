package contract_test

import (
	"path/filepath"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

func TestAutoIsPeftWhereThereIsAGPU(t *testing.T) {
	for _, c := range []struct {
		engine string
		gpus   int
		want   string
	}{{"", 0, "native"}, {"auto", 0, "native"}, {"auto", 2, "peft"}, {"", 1, "peft"}, {"native", 1, "native"}, {"peft", 0, "peft"}} {
		if got := (contract.TrainingConfig{Engine: c.engine}).EngineFor(c.gpus); got != c.want {
			t.Errorf("%q with %d GPUs is %s, want %s", c.engine, c.gpus, got, c.want)
		}
	}
}

func TestEngineSettingsThatContradictAreRefused(t *testing.T) {
	for config, field := range map[string]string{
		`{"training":{"engine":"jax"}}`:                                                        "training.engine",
		`{"training":{"engine":"native","workers":2}}`:                                         "training.workers",
		`{"training":{"engine":"peft","workers":100}}`:                                         "training.workers",
		`{"training":{"engine":"peft","sharding":"x"}}`:                                        "training.sharding",
		`{"training":{"engine":"peft","sharding":"fsdp"}}`:                                     "training.sharding",
		`{"training":{"engine":"peft","sharding":"fsdp","workers":2,"base_precision":"int4"}}`: "training.sharding",
	} {
		c, err := contract.ParseConfig([]byte(config), true)
		if err != nil {
			t.Fatal(err)
		}
		if faults := c.WithDefaults().Validate(); len(faults) != 1 || faults[0].Field != field {
			t.Errorf("%s: %v, want a fault of %s", config, faults, field)
		}
	}
}

func FuzzParseEngineManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"engine":"peft","python":"/x/bin/python","devices":["cpu"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := contract.ParseEngineManifest(data); err == nil && (!filepath.IsAbs(m.Python) || m.Engine == "") {
			t.Errorf("accepted %+v", m)
		}
	})
}
