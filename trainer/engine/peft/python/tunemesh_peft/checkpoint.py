"""Checkpoints and artifacts in the layout that all engines share.

    adapter_model.safetensors   an adapter, named as PEFT names it, F32
    model.safetensors           all weights (method full)
    optimizer.safetensors       exp_avg/NAME and exp_avg_sq/NAME, flat, F32
    peft.json                   what only this engine needs: the loss scale of F16

The stage adds adapter_config.json, the state of the training and checksums, and
gives the folder its name when all of it is on the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import torch
from safetensors.torch import load_file, save_file

from .loading import ADAPTER_FILE
from .protocol import EngineError
from .trainer import Trainer, _whole

MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
OWN_FILE = "peft.json"


def public_name(name: str) -> str:
    """A parameter's name in the files: PEFT leaves the adapter's own name out."""
    return name.replace(".lora_A.default.", ".lora_A.").replace(".lora_B.default.", ".lora_B.")


def _trained(t: Trainer) -> Iterator[tuple[str, torch.nn.Parameter]]:
    for name, parameter in t.trained.items():
        yield public_name(name), parameter


def save(t: Trainer, folder: str) -> None:
    """Writes all that the training goes on from, F32, by the first worker alone."""
    _write_weights(t, folder, torch.float32, {})
    slots: dict[str, torch.Tensor] = {}
    for name, p in _trained(t):
        state = t.optimizer.state.get(p, {})
        for slot in ("exp_avg", "exp_avg_sq"):
            value = _whole(state[slot]) if slot in state else torch.zeros(p.shape)
            slots[f"{slot}/{name}"] = value.detach().float().cpu().flatten().contiguous()
    if t.workers.is_first:
        save_file(slots, os.path.join(folder, OPTIMIZER_FILE))
        if t.scaler.is_enabled():
            with open(os.path.join(folder, OWN_FILE), "w") as f:
                json.dump({"scaler": t.scaler.state_dict()}, f)


def export(t: Trainer, folder: str, dtype: torch.dtype, metadata: dict[str, str]) -> None:
    """Writes the trained tensors as an artifact: an adapter in F32, with what it comes
    from in its file's header, or a whole model in a dtype."""
    _write_weights(t, folder, dtype, {} if t.settings.method == "full" else metadata)


def _write_weights(t: Trainer, folder: str, dtype: torch.dtype, metadata: dict[str, str]) -> None:
    full = t.settings.method == "full"
    values = {}
    for name, p in _trained(t):
        values[name] = _whole(p.detach()).to("cpu", dtype if full else torch.float32).contiguous()
    if t.workers.is_first:
        os.makedirs(folder, exist_ok=True)
        save_file(values, os.path.join(folder, MODEL_FILE if full else ADAPTER_FILE), metadata={"format": "pt", **metadata})


def load(t: Trainer, folder: str, updates: int) -> None:
    """Goes on from a folder that save, or another engine, has written."""
    full = t.settings.method == "full"
    weights = load_file(os.path.join(folder, MODEL_FILE if full else ADAPTER_FILE))
    slots = load_file(os.path.join(folder, OPTIMIZER_FILE))
    for name, p in _trained(t):
        for key, source in ((name, weights), (f"exp_avg/{name}", slots), (f"exp_avg_sq/{name}", slots)):
            if key not in source or source[key].numel() != p.numel():
                raise EngineError("internal", "CHECKPOINT_SHAPE", f"the checkpoint lacks {key} in its shape")
        with torch.no_grad():
            p.copy_(_like(weights[name], p))
        t.optimizer.state[p] = {
            "step": torch.tensor(float(updates), device=p.device if t.device.fused else None),
            "exp_avg": _like(slots[f"exp_avg/{name}"], p),
            "exp_avg_sq": _like(slots[f"exp_avg_sq/{name}"], p),
        }
    own = os.path.join(folder, OWN_FILE)
    if t.scaler.is_enabled() and os.path.exists(own):
        with open(own) as f:
            t.scaler.load_state_dict(json.load(f)["scaler"])


def _like(value: torch.Tensor, p: torch.nn.Parameter) -> torch.Tensor:
    """The value in the parameter's shape and place, and in its shards if it has some."""
    value = value.reshape(p.shape).to(p.device, p.dtype)
    if hasattr(p, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value, p.device_mesh, p.placements)
    return value.clone()
