"""What depends on the device, with a torch that claims to have others than this one."""

from __future__ import annotations

import os
import sys
import unittest
from typing import Any
from unittest import mock

import torch

from tunemesh_peft import batch, checkpoint, device, quantization, serve, workers
from tunemesh_peft.protocol import EngineError, Open


def card(bf16: bool = True, cuda: bool = True) -> Any:
    """Stands for a machine with a card, or without one."""
    return mock.patch.multiple(
        torch.cuda,
        is_available=lambda: cuda,
        set_device=mock.DEFAULT,
        get_device_name=lambda index: f"Card {index}",
        is_bf16_supported=lambda including_emulation=True: bf16 or including_emulation,
    )


class Choice(unittest.TestCase):
    def test_auto_is_cuda_then_mps_then_cpu(self) -> None:
        for cuda, mps, want in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
            with card(cuda=cuda), mock.patch.object(torch.backends.mps, "is_available", lambda mps=mps: mps):
                self.assertEqual(device.choose("auto", "auto", 0).kind, want)

    def test_a_worker_takes_the_card_of_its_rank(self) -> None:
        with card() as patched:
            d = device.choose("cuda", "auto", 3)
        patched["set_device"].assert_called_once_with(3)
        self.assertEqual((d.name, d.ids, d.fused), ("cuda:3 (Card 3)", [3], True))

    def test_a_card_without_bf16_takes_f16_even_where_torch_emulates_it(self) -> None:
        for bf16, want in ((True, torch.bfloat16), (False, torch.float16)):
            with card(bf16=bf16):
                d = device.choose("cuda", "auto", 0)
            self.assertEqual((d.dtype, d.mixed), (want, True))
            self.assertIn("loss scale" if not bf16 else "BF16", d.reason)

    def test_the_config_overrides_the_card(self) -> None:
        with card():
            self.assertEqual(device.choose("cuda", "f32", 0).dtype, torch.float32)

    def test_what_is_not_there_is_said(self) -> None:
        for wanted in ("cuda", "mps"):
            apple = mock.patch.object(torch.backends.mps, "is_available", lambda: False)
            with card(cuda=False), apple, self.assertRaises(EngineError) as raised:
                device.choose(wanted, "auto", 0)
            self.assertEqual(raised.exception.code, "NO_DEVICE")

    def test_a_torch_without_cuda_is_named(self) -> None:
        with mock.patch.object(torch.version, "cuda", None), mock.patch.object(torch.version, "hip", None):
            self.assertIn("built without CUDA", device.cuda_fault())

    def test_the_drivers_words_are_passed_on(self) -> None:
        def broken() -> None:
            raise RuntimeError("driver too old\nmore")

        with mock.patch.object(torch.version, "cuda", "13.2"), mock.patch.object(torch.cuda, "init", broken):
            self.assertEqual(device.cuda_fault(), "driver too old")

    def test_the_cpu_computes_in_f32(self) -> None:
        d = device.choose("cpu", "auto", 0)
        self.assertEqual((d.dtype, d.mixed, d.ids, d.fused), (torch.float32, False, None, None))


class Memory(unittest.TestCase):
    def at(self, kind: str) -> device.Device:
        return device.Device(torch.device(kind), kind, torch.float32, "")

    def test_the_peak_is_the_cards_or_the_process(self) -> None:
        with mock.patch.object(torch.cuda, "max_memory_allocated", lambda d: 7):
            self.assertEqual(device.peak_bytes(self.at("cuda")), 7)
        with mock.patch.object(torch.mps, "driver_allocated_memory", lambda: 8):
            self.assertEqual(device.peak_bytes(self.at("mps")), 8)
        self.assertGreater(device.peak_bytes(self.at("cpu")), 50 << 20)  # torch alone is more

    def test_an_overfull_card_is_a_lack_of_resources_with_advice(self) -> None:
        with mock.patch("traceback.print_exc"):
            for e in (torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"), MemoryError("full")):
                said = serve._failure(e)
                self.assertEqual((said["class"], said["code"]), ("resources", "OUT_OF_MEMORY"))
                self.assertIn("batch_size", said["hint"])
            self.assertEqual(serve._failure(ValueError("x"))["code"], "ENGINE_FAILED")


class Transport(unittest.TestCase):
    def test_nccl_between_cards_gloo_between_cpus(self) -> None:
        for cuda, want in ((True, "cpu:gloo,cuda:nccl"), (False, "gloo")):
            with card(cuda=cuda):
                self.assertEqual(workers.backend(), want)

    def test_without_torchrun_there_is_one_worker(self) -> None:
        with mock.patch.dict(os.environ):
            os.environ.pop("TORCHELASTIC_RUN_ID", None)
            w = workers.Workers.join()
        self.assertEqual((w.rank, w.count, w.is_first, w.total(2.5)), (0, 1, True, [2.5]))


class Quantisation(unittest.TestCase):
    def open(self, **more: object) -> Open:
        return Open(model_dir="", method="lora", seed=1, device="auto", precision="auto", quantization="int4", **more)

    def at(self, kind: str) -> device.Device:
        return device.Device(torch.device(kind), kind, torch.bfloat16, "")

    def test_int4_is_nf4_quantised_twice_in_the_devices_precision(self) -> None:
        for kind in ("cuda", "cpu", "mps"):
            s = quantization.settings(self.open(), self.at(kind))
            assert s is not None
            self.assertEqual(
                (s.load_in_4bit, s.bnb_4bit_quant_type, s.bnb_4bit_use_double_quant, s.bnb_4bit_compute_dtype),
                (True, "nf4", True, torch.bfloat16),
            )

    def test_what_bitsandbytes_cannot_do_is_refused(self) -> None:
        import bitsandbytes

        with mock.patch.object(bitsandbytes, "supported_torch_devices", {"cpu", "cuda"}), self.assertRaises(EngineError) as raised:
            quantization.settings(self.open(), self.at("mps"))
        self.assertEqual(raised.exception.code, "QUANTIZATION_UNSUPPORTED")
        self.assertIn("mps", str(raised.exception))
        with mock.patch.dict(sys.modules, {"bitsandbytes": None}):
            self.assertIn("install peft again", quantization.unusable("cpu"))
        with mock.patch.object(bitsandbytes, "supported_torch_devices", {"cpu", "cuda"}):
            del bitsandbytes.supported_torch_devices  # one of old
            self.assertEqual(quantization.unusable("cuda"), "")
            self.assertIn("no code for cpu", quantization.unusable("cpu"))
            bitsandbytes.supported_torch_devices = {"cpu", "cuda"}

    def test_a_quantised_base_is_not_divided(self) -> None:
        with self.assertRaises(EngineError) as raised:
            quantization.settings(self.open(sharding="fsdp"), self.at("cuda"))
        self.assertIn("packed", str(raised.exception))

    def test_transformers_is_told_the_card_or_the_cpu_by_name(self) -> None:
        self.assertEqual(quantization.device_map(self.at("cpu")), {"": "cpu"})
        self.assertEqual(quantization.device_map(self.at("cuda")), {"": torch.device("cuda")})


class Names(unittest.TestCase):
    def test_targets_and_names(self) -> None:
        self.assertEqual(batch.count_targets([{"tokens": [1, 2, 3], "loss": [[0, 3]]}]), 2)
        self.assertEqual(checkpoint.public_name("a.lora_A.default.weight"), "a.lora_A.weight")


if __name__ == "__main__":
    unittest.main()
