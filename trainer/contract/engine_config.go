package contract

import "slices"

// Engines that training.engine may name.
var Engines = []string{"auto", "native", "peft"}

func (t *TrainingConfig) engineDefaults() {
	if t.Engine == "" {
		t.Engine = "auto"
	}
	if t.Workers == 0 {
		t.Workers = 1
	}
	if t.Sharding == "" {
		t.Sharding = "none"
	}
}

// EngineFor resolves auto: peft where a stage has reserved GPUs, which native
// cannot use, and native elsewhere. An empty name is auto.
func (t TrainingConfig) EngineFor(gpus int) string {
	switch {
	case slices.Contains(Engines[1:], t.Engine):
		return t.Engine
	case gpus > 0:
		return "peft"
	}
	return "native"
}

// engineFaults checks what belongs to the engine.
func (t TrainingConfig) engineFaults(fail func(field, format string, args ...any)) {
	if !slices.Contains(Engines, t.Engine) {
		fail("training.engine", "is %q, want one of auto, native, peft", t.Engine)
	}
	if t.Workers < 1 || t.Workers > 64 {
		fail("training.workers", "is %v, want 1 to 64", t.Workers)
	}
	if t.Sharding != "none" && t.Sharding != "fsdp" {
		fail("training.sharding", "is %q, want one of none, fsdp", t.Sharding)
	}
	if t.Engine == "native" && t.Workers > 1 {
		fail("training.workers", "is %d, but the engine native is one process that uses all cores: want 1, or training.engine peft", t.Workers)
	}
	if t.Sharding == "fsdp" && (t.BasePrecision == "int8" || t.BasePrecision == "int4") {
		fail("training.sharding", "is fsdp, but a base in %s is packed and cannot be divided: want none, so that each worker holds it whole", t.BasePrecision)
	}
	if t.Sharding == "fsdp" && t.Workers < 2 {
		fail("training.sharding", "is fsdp, which divides a model among workers: want training.workers of 2 or more")
	}
}
