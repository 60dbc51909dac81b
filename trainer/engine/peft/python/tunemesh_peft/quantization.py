"""A frozen base in 8 or 4 bits (bitsandbytes): int8 is LLM.int8 (arXiv 2208.07339),
int4 is NF4 with its constants quantised again, the settings of QLoRA (arXiv
2305.14314)."""

from __future__ import annotations

from typing import Any

import torch
from peft import prepare_model_for_kbit_training
from torch import nn
from transformers import BitsAndBytesConfig

from .device import Device
from .protocol import EngineError, Open


def settings(o: Open, device: Device) -> BitsAndBytesConfig | None:
    """Says how Transformers shall quantise, None for a base that is not. A base that
    cannot be quantised here is refused before anything is loaded."""
    if not o.quantization:
        return None
    if o.method == "full":
        raise EngineError("config", "INVALID_CONFIG", "a quantised base is frozen: it needs the method lora")
    if o.sharding == "fsdp":
        raise EngineError(
            "config", "INVALID_CONFIG", "a quantised base cannot be divided among workers (fsdp): its values are packed",
            "leave training.sharding out: each worker then holds the small base whole",
        )
    _require(device)
    if o.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=device.dtype
    )


def _require(device: Device) -> None:
    fault = unusable(device.kind)
    if fault:
        raise EngineError(
            "unsupported", "QUANTIZATION_UNSUPPORTED", f"the base cannot be quantised on {device.name}: {fault}",
            "training.base_precision auto, or the engine native, which quantises on every CPU",
        )


def unusable(kind: str) -> str:
    """Why bitsandbytes cannot quantise on a kind of device; empty where it can."""
    try:
        import bitsandbytes
    except Exception as e:  # a missing package, or a library that does not load
        return f"bitsandbytes cannot be used ({str(e).splitlines()[0]}): run tunemesh engine install peft again"
    # Versions before 0.46 know CUDA only, and do not say so.
    supported = getattr(bitsandbytes, "supported_torch_devices", {"cuda"})
    if kind not in supported:
        return f"bitsandbytes {bitsandbytes.__version__} has no code for {kind}"
    return ""


def device_map(device: Device) -> dict[str, Any]:
    """Names the device for Transformers, which knows the CPU by its name only."""
    return {"": "cpu" if device.kind == "cpu" else device.torch}


def prepare(model: nn.Module, recompute: bool) -> nn.Module:
    """Freezes the quantised model, keeps what is not quantised in F32, and makes an
    evaluation compute what a training step computes."""
    model = prepare_model_for_kbit_training(
        model, use_gradient_checkpointing=recompute, gradient_checkpointing_kwargs={"use_reentrant": False}
    )
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            # Else the first evaluation on a CPU with AVX512_BF16 repacks the weights
            # for inference and rounds their constants to BF16, and no training step
            # after it gets a gradient through them.
            module.support_avx512bf16_for_cpu = False
        elif isinstance(module, bitsandbytes.nn.Linear8bitLt):
            _stay_in_training(module)
    return model


def _stay_in_training(module: nn.Module) -> None:
    """On the CPU an 8-bit product rounds its input to 8 bits in evaluation only; the
    loss of an evaluation would not be that of the model in training."""

    def enter(m: nn.Module, _: Any) -> None:
        m.training = True

    module.register_forward_pre_hook(enter)


def elements(p: nn.Parameter) -> int:
    """Counts values: two of a 4-bit weight stand in one byte."""
    state = getattr(p, "quant_state", None)
    return state.shape.numel() if state is not None else p.numel()


def base_bytes(model: nn.Module) -> int:
    """Bytes of all weights, a tied head once, with the constants of a quantisation."""
    total = sum(_bytes(p) + sum(_bytes(t) for t in _constants(p)) for p in model.parameters())
    states = (getattr(m, "state", None) for m in model.modules())
    return total + sum(_bytes(s.SCB) for s in states if getattr(s, "SCB", None) is not None)


def _bytes(t: torch.Tensor) -> int:
    return t.numel() * t.element_size()


def _constants(p: nn.Parameter) -> list[torch.Tensor]:
    """The tensors that a quantised weight is decoded by."""
    if getattr(p, "SCB", None) is not None:  # int8: one per row
        return [p.SCB]
    state = getattr(p, "quant_state", None)
    if state is None:
        return []
    found = [state.absmax]
    if state.nested:
        found += [state.offset, state.state2.absmax, state.state2.code]
    return found
