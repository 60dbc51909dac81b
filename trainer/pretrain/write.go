package pretrain

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// writeModel writes the folder as Hugging Face lays it out; the tokenizer is
// there already.
func writeModel(c Config, m *model.Model, r Report) error {
	var infos []weights.TensorInfo
	for _, t := range c.Shape.Tensors() {
		infos = append(infos, weights.TensorInfo{Name: t.Name, DType: weights.BF16, Shape: t.Shape})
	}
	err := weights.WriteFloats(filepath.Join(c.Dir, weights.SingleName), infos, func(name string) ([]float32, error) {
		_, values, err := m.MergedTensor(name)
		return values, err
	})
	if err != nil {
		return err
	}
	chatml, err := template.ByName("chatml", "<|im_end|>")
	if err != nil {
		return err
	}
	for name, document := range map[string]any{
		"config.json": c.Shape,
		"tokenizer_config.json": map[string]any{
			"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": c.Shape.MaxPositions,
			"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
			"add_bos_token": false, "clean_up_tokenization_spaces": false, "chat_template": chatml.Jinja(),
		},
		"special_tokens_map.json": map[string]any{"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
		"generation_config.json":  map[string]any{"bos_token_id": c.Shape.BOSTokenID, "eos_token_id": c.Shape.EOSTokenIDs, "do_sample": false},
	} {
		if err := writeJSON(filepath.Join(c.Dir, name), document); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "README.md"), []byte(card(c, r)), 0o644); err != nil {
		return fmt.Errorf("pretrain: %w", err)
	}
	return nil
}

// card is the model card, in the hub's form.
func card(c Config, r Report) string {
	return fmt.Sprintf(`---
license: apache-2.0
language: [en]
library_name: transformers
pipeline_tag: text-generation
---

# %s

A small language model of Llama architecture: %.1f million parameters, %d layers, width %d, a context of %d tokens and a byte-level BPE vocabulary of %d. Tunemesh's own trainer made it from scratch, on a CPU, for one purpose: to show a whole fine-tuning in two minutes on a laptop, and to test one.

**It is small.** It writes fragments that look like English and knows nothing. Tuned on a narrow task, such as sorting short texts into classes, it does that task. For anything else take a real model. It was pretrained on rows of 128 tokens; longer texts work by the grace of the rotary positions, and worse.

## What it has read

It was trained on %.1f million tokens, in passes over:

- the prose of the documentation comments of %s's standard library (BSD-3-Clause, the Go Authors);
- lines of synthetic support tickets without labels, from the generator in examples/tickets (ours);
- chats in ChatML about those texts - repeat it, continue it, find a word - made by rule.

It has seen no label and no question of the demo.

## Measured

Loss on text that was kept back: %.3f nats a token, perplexity %.1f. At the end of training the loss of the last batch was %.3f.

## Made by

`+"`make base-model`"+` runs the recipe (trainer/pretrain): AdamW, peak rate %g, %d steps of %d x %d tokens, seed %d. The same Go release on the same kind of processor gives the same bytes.
`, c.Name, float64(r.Parameters)/1e6, c.Shape.NumLayers, c.Shape.HiddenSize, c.Shape.MaxPositions, c.Shape.VocabSize,
		float64(r.Tokens)/1e6, runtime.Version(), r.HeldOutLoss, r.HeldOutPerplexity, r.Loss,
		c.PeakRate, c.Steps, c.RowsPerStep, c.RowTokens, c.Seed)
}
