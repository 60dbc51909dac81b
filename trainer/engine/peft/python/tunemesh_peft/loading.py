"""The base model and what is trained of it."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from . import quantization
from .device import Device
from .protocol import EngineError, Open

ADAPTER_FILE = "adapter_model.safetensors"


@dataclass
class Loaded:
    """A model ready for training, and what is to be said of it."""

    model: nn.Module
    parameters: int  # of the base model, a tied head counted once
    base_bytes: int  # that its weights take, with the constants of a quantisation
    arithmetic: str  # for people


def load(o: Open, device: Device) -> Loaded:
    """Loads the base model, quantised if asked for, and adds what is trained to it."""
    settings = quantization.settings(o, device)
    # What is trained is kept in F32 throughout; frozen weights may be narrower.
    dtype = torch.float32 if o.method == "full" else device.dtype
    model = AutoModelForCausalLM.from_pretrained(
        o.model_dir,
        dtype=dtype,
        quantization_config=settings,
        device_map=quantization.device_map(device) if settings else None,
        local_files_only=True,
        low_cpu_mem_usage=True,
    )
    parameters = sum(quantization.elements(p) for p in model.parameters())
    model.config.use_cache = False
    if settings:
        model = quantization.prepare(model, o.recompute)
    else:
        model.to(device.torch)
        if o.recompute:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    base_bytes = quantization.base_bytes(model)
    if o.method != "full":
        model = _add_lora(model, o)
    words = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
    kept = {"": words[dtype], "int8": "8 bits (LLM.int8)", "int4": "4 bits (NF4)"}[o.quantization]
    arithmetic = f"frozen weights in {kept}, products in {words[device.dtype]}, trained weights in F32 ({device.reason})"
    return Loaded(model, parameters, base_bytes, arithmetic)


def _add_lora(model: nn.Module, o: Open) -> nn.Module:
    assert o.lora is not None
    torch.manual_seed(o.seed % (1 << 63))
    config = LoraConfig(
        r=o.lora.r,
        lora_alpha=o.lora.lora_alpha,
        lora_dropout=o.lora.lora_dropout,
        use_rslora=o.lora.use_rslora,
        target_modules=o.lora.target_modules,
        bias="none",
        task_type="CAUSAL_LM",
    )
    # autocast_adapter_dtype keeps the adapter in F32 over a narrower base.
    model = get_peft_model(model, config, autocast_adapter_dtype=True)
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.float()
    if o.initial:
        load_adapter(model, os.path.join(o.initial, ADAPTER_FILE))
    return model


def load_adapter(model: nn.Module, path: str) -> None:
    """Sets an adapter's values. Every one must be there, and no other."""
    result = set_peft_model_state_dict(model, load_file(path))
    missing = [k for k in result.missing_keys if "lora_" in k]
    if missing or result.unexpected_keys:
        raise EngineError("internal", "CHECKPOINT_SHAPE", f"{path}: missing {missing[:3]}, unexpected {list(result.unexpected_keys)[:3]}")
