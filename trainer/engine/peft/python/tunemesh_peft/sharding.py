"""Fully sharded data parallelism: each worker keeps a part of the weights and of
the optimizer's state (torch.distributed.fsdp.fully_shard)."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def shard(model: nn.Module, device: torch.device) -> None:
    """Shards layer by layer, so that a pass gathers one layer at a time."""
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    for layer in base.get_decoder().layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(base.get_decoder(), mesh=mesh)
