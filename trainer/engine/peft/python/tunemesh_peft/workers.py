"""One worker or several: who we are, and how all hear what the first one hears."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


def backend() -> str:
    """What carries tensors between workers: NCCL (on ROCm RCCL under its name) between
    cards, gloo between CPUs, for whatever lies there."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


@dataclass
class Workers:
    """This worker's place among all."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    control: Any = None  # a group over gloo, for requests: they are no tensors

    @staticmethod
    def join() -> Workers:
        """Joins the others if torchrun has started us (it sets WORLD_SIZE and more)."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return Workers()
        # A stage may be silent between two requests for as long as it wants.
        idle = datetime.timedelta(days=7)
        dist.init_process_group(backend(), timeout=datetime.timedelta(minutes=30))
        return Workers(
            rank=dist.get_rank(),
            count=dist.get_world_size(),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            control=dist.new_group(backend="gloo", timeout=idle),
        )

    @property
    def is_first(self) -> bool:
        """Whether this worker speaks with the stage and writes files."""
        return self.rank == 0

    def share(self, request: Any) -> Any:
        """Gives every worker the first one's request."""
        if self.count == 1:
            return request
        box = [request]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def total(self, *values: float) -> list[float]:
        """Adds numbers up over all workers, in double precision."""
        if self.count == 1:
            return list(values)
        t = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(t, group=self.control)
        return t.tolist()

    def leave(self) -> None:
        """Takes leave of the others, if there are any."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()
