// Package adapter reads and writes LoRA adapters as PEFT lays them out: a folder
// with adapter_config.json and adapter_model.safetensors.
//
// It knows the names and the fields of that layout and nothing of the engine
// that trained the values: it deals in named float32 matrices. Layout and field
// names: github.com/huggingface/peft, src/peft/config.py,
// src/peft/tuners/lora/config.py and src/peft/utils/save_and_load.py.
package adapter
