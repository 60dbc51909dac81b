"""The model in training: updates, losses, and the state that goes on."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from . import batch as batches
from . import device as devices
from . import loading
from .loss import SummedLoss
from .protocol import Open
from .sharding import shard
from .workers import Workers

Sequence = dict[str, Any]


class Trainer:
    """A model, its optimizer, and on several workers this one's part of both."""

    def __init__(self, o: Open, workers: Workers) -> None:
        if o.threads:
            torch.set_num_threads(o.threads)
        self.settings, self.workers = o, workers
        self.device = devices.choose(o.device, o.precision, workers.local_rank)
        loaded = loading.load(o, self.device)
        self.model, self.loaded = loaded.model, loaded
        loss = SummedLoss(self.model)
        self.loss_module: nn.Module = loss
        if workers.count > 1 and o.sharding == "fsdp":
            shard(loss, self.device.torch)
        elif workers.count > 1:
            self.loss_module = DistributedDataParallel(loss, device_ids=self.device.ids)
        self.trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        decayed = [p for n, p in self.trained.items() if p.ndim > 1]
        others = [p for n, p in self.trained.items() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": o.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=self.device.fused
        )
        self.scaler = torch.amp.GradScaler(self.device.kind, enabled=self.device.dtype == torch.float16)

    def describe(self) -> dict[str, Any]:
        """What was opened, for the stage's log and its memory of the run."""
        import peft
        import transformers

        return {
            "device": self.device.name,
            "arithmetic": self.loaded.arithmetic,
            "threads": torch.get_num_threads(),
            "workers": self.workers.count,
            "trainable": sum(p.numel() for p in self.trained.values()),
            "parameters": self.loaded.parameters,
            "base_bytes": self.loaded.base_bytes,
            "version": f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}",
        }

    def step(self, micro: list[list[Sequence]], first_micro: int, rate: float, max_norm: float) -> dict[str, Any]:
        """Makes one update. The gradient is that of the mean over all targets of all
        micro-batches, wherever they were computed."""
        self.loss_module.train()
        self.optimizer.zero_grad(set_to_none=True)
        targets = sum(batches.count_targets(m) for m in micro)
        share = self.workers.count / targets  # the wrapper averages over the workers
        loss_sum = 0.0
        for i, sequences in enumerate(micro):
            self._seed(first_micro + i)
            with self._synchronised(last=i == len(micro) - 1), self._autocast():
                loss = self.loss_module(self._mine(sequences))
                loss_sum += float(loss.detach())
                self.scaler.scale(loss * share).backward()
        (loss_sum,) = self.workers.total(loss_sum)
        self.scaler.unscale_(self.optimizer)
        parameters = list(self.trained.values())
        norm = float(_whole(nn.utils.clip_grad_norm_(parameters, max_norm or float("inf"))))
        finite = norm - norm == 0.0 and loss_sum - loss_sum == 0.0
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.scaler.step(self.optimizer)
        skipped = self.scaler.is_enabled() and not finite
        if finite:
            self.scaler.update()
        elif skipped:
            # Said here, by the norm that all workers know: one whose own shard holds
            # no overflow would keep its scale, and the workers' scales part.
            self.scaler.update(self.scaler.get_scale() * self.scaler.get_backoff_factor())
        return {"loss_sum": loss_sum, "targets": targets, "norm": norm, "skipped": skipped}

    @torch.no_grad()
    def loss(self, sequences: list[Sequence]) -> dict[str, Any]:
        """Sums the loss of a batch without dropout and without a gradient."""
        self.loss_module.eval()
        # The wrapper's own forward waits for a backward pass; a shard has no other.
        module = self.loss_module.module if isinstance(self.loss_module, DistributedDataParallel) else self.loss_module
        with self._autocast():
            loss = module(self._mine(sequences))
        (total,) = self.workers.total(float(loss))
        return {"loss_sum": total, "targets": batches.count_targets(sequences)}

    def _mine(self, sequences: list[Sequence]) -> batches.Batch:
        """This worker's rows. One without a row computes another's without targets:
        all workers must take part in every pass."""
        mine = sequences[self.workers.rank :: self.workers.count]
        if not mine:
            mine = [{"tokens": sequences[0]["tokens"], "loss": []}]
        return batches.build(mine, self.device.torch)

    def _seed(self, micro: int) -> None:
        """Dropout's choices follow from the seed, the micro-batch and the worker, so
        that a training goes on after an interruption as it would have anyway."""
        mixed = (self.settings.seed * 0x9E3779B97F4A7C15 + micro * 0xBF58476D1CE4E5B9 + self.workers.rank) & 0x7FFFFFFFFFFFFFFF
        torch.manual_seed(mixed)

    def _synchronised(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients travel once per update, with the last micro-batch."""
        if isinstance(self.loss_module, DistributedDataParallel) and not last:
            return self.loss_module.no_sync()
        return contextlib.nullcontext()

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        if not self.device.mixed:
            return contextlib.nullcontext()
        return torch.autocast(self.device.kind, dtype=self.device.dtype)


def _whole(t: torch.Tensor) -> torch.Tensor:
    return t.full_tensor() if hasattr(t, "full_tensor") else t
