"""Fully sharded data parallelism: each worker keeps a part of the weights and of
the optimizer's state (torch.distributed.fsdp.fully_shard)."""

from __future__ import annotations

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from .loss import SummedLoss


def shard(loss: SummedLoss, device: torch.device) -> None:
    """Shards layer by layer, so that a pass gathers one layer at a time, and the rest
    (embedding, last norm, head) with the module that the pass begins in."""
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for layer in loss.layers():
        fully_shard(layer, mesh=mesh)
    fully_shard(loss, mesh=mesh)
