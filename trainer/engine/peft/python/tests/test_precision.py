"""Real steps on the CPU in the precisions of a card: F16 under a loss scale, BF16, and
the update of all weights in one kernel."""

from __future__ import annotations

import json
import os
import tempfile
import unittest
from typing import Any
from unittest import mock

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tunemesh_peft import checkpoint, device, quantization
from tunemesh_peft.protocol import LoRA, Open
from tunemesh_peft.trainer import Trainer
from tunemesh_peft.workers import Workers

MICRO = [[{"tokens": [1, 2, 3, 4, 5, 6, 7, 8], "loss": [[2, 8]]}, {"tokens": [9, 8, 7, 6], "loss": [[1, 4]]}]]


class Precision(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=64, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
        )
        LlamaForCausalLM(config).save_pretrained(self.folder.name)

    def trainer(self, precision: str = "f32", **more: Any) -> Trainer:
        lora = LoRA(4, 8.0, 0.1, False, ["q_proj", "v_proj", "down_proj"])
        return Trainer(
            Open(model_dir=self.folder.name, method="lora", seed=1, device="cpu", precision=precision, lora=lora, threads=1, **more),
            Workers(),
        )

    def losses(self, t: Trainer, first: int, steps: int) -> list[float]:
        return [t.step(MICRO, first + i, 0.01, 1.0)["loss_sum"] for i in range(steps)]

    def weights(self, t: Trainer) -> list[torch.Tensor]:
        return [p.detach().clone() for p in t.trained.values()]

    def test_half_precision_learns_as_f32_does(self) -> None:
        want = self.losses(self.trainer(), 0, 8)
        for precision, dtype in (("bf16", torch.bfloat16), ("f16", torch.float16)):
            t = self.trainer(precision)
            self.assertEqual(t.scaler.is_enabled(), precision == "f16")
            self.assertTrue(all(p.dtype == torch.float32 for p in t.trained.values()))
            self.assertEqual({p.dtype for p in t.model.parameters() if not p.requires_grad}, {dtype})
            got = self.losses(t, 0, 8)
            self.assertLess(got[-1], got[0])
            # Sums over 9 targets.
            self.assertLess(max(abs(a - b) for a, b in zip(want, got)) / 9, 0.02)

    def test_an_overflow_is_skipped_and_halves_the_scale(self) -> None:
        t = self.trainer("f16")
        self.losses(t, 0, 1)
        t.scaler.update(2.0**40)
        before = self.weights(t)
        update = t.step(MICRO, 1, 0.01, 1.0)
        self.assertTrue(update["skipped"])
        self.assertEqual(t.scaler.get_scale(), 2.0**39)
        self.assertTrue(all(torch.equal(a, b) for a, b in zip(before, self.weights(t))))
        for _ in range(60):
            if not t.step(MICRO, 1, 0.01, 1.0)["skipped"]:
                break
        else:
            self.fail("the scale never came down to what the gradients bear")
        self.assertFalse(all(torch.equal(a, b) for a, b in zip(before, self.weights(t))))

    def test_a_checkpoint_of_f16_keeps_the_loss_scale_and_goes_on_to_the_same_bits(self) -> None:
        whole = self.trainer("f16")
        self.losses(whole, 0, 1)
        whole.scaler.update(2.0**12)
        self.losses(whole, 1, 2)
        with tempfile.TemporaryDirectory() as saved:
            checkpoint.save(whole, saved)
            with open(os.path.join(saved, checkpoint.OWN_FILE)) as f:
                self.assertEqual(json.load(f)["scaler"]["scale"], 2.0**12)
            want = self.losses(whole, 3, 3)
            again = self.trainer("f16")
            checkpoint.load(again, saved, 3)
            self.assertEqual(again.scaler.get_scale(), 2.0**12)
            self.assertEqual(self.losses(again, 3, 3), want)
            self.assertTrue(all(torch.equal(a, b) for a, b in zip(self.weights(whole), self.weights(again))))

    def test_the_fused_optimizer_of_a_card_steps_and_resumes(self) -> None:
        plain = self.losses(self.trainer(), 0, 4)
        with mock.patch.object(device.Device, "fused", True):
            fused = self.trainer()
            got = self.losses(fused, 0, 2)
            with tempfile.TemporaryDirectory() as saved:
                checkpoint.save(fused, saved)
                again = self.trainer()
                checkpoint.load(again, saved, 2)
                got += self.losses(again, 2, 2)
        self.assertTrue(again.optimizer.param_groups[0]["fused"])
        self.assertLess(max(abs(a - b) for a, b in zip(plain, got)), 1e-4)

    def test_a_4_bit_base_takes_an_eighth_and_an_evaluation_leaves_it_alone(self) -> None:
        for precision in ("f32", "bf16", "f16"):
            t = self.trainer(precision, quantization="int4")
            before = t.loss(MICRO[0])["loss_sum"]
            self.losses(t, 0, 6)
            after = t.loss(MICRO[0])["loss_sum"]
            self.assertLess(after, before)
            self.assertTrue(all(p.grad is not None for p in t.trained.values()))
        layers = {q: self.bytes_of_layers(self.trainer(quantization=q)) for q in ("", "int8", "int4")}
        self.assertLess(layers["int8"], 0.30 * layers[""])
        self.assertLess(layers["int4"], 0.16 * layers[""])

    def bytes_of_layers(self, t: Trainer) -> int:
        layers = t.loss_module.layers()  # type: ignore[operator]
        return quantization.base_bytes(layers) - sum(4 * p.numel() for n, p in layers.named_parameters() if "lora_" in n)


if __name__ == "__main__":
    unittest.main()
