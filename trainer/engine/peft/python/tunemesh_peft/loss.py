"""The summed cross-entropy of a batch's targets, as one module: what a wrapper for
several workers has to see is the whole forward pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from .batch import Batch

# Logits of so many values at a time: a vocabulary is wide, and a prompt has none.
CHUNK_VALUES = 1 << 26


class SummedLoss(nn.Module):
    """Computes the loss of a causal language model over the targets only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model  # with its adapter, if it has one
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._decoder = [base.get_decoder()]  # in a list: not a submodule twice
        self._head = [base.get_output_embeddings()]
        self.softcap = getattr(base.config, "final_logit_softcapping", None)

    def layers(self) -> nn.ModuleList:
        """The decoder's layers, one after the other."""
        return self._decoder[0].layers

    def forward(self, batch: Batch) -> torch.Tensor:
        """Sums the loss over the targets, in nats."""
        out = self._decoder[0](input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
        hidden = out.last_hidden_state.flatten(0, 1)[batch.places]
        rows = max(16, CHUNK_VALUES // self._head[0].weight.shape[0])
        if len(hidden) <= rows:
            return self._chunk(hidden, batch.targets)
        total = hidden.new_zeros((), dtype=torch.float32)
        for h, t in zip(hidden.split(rows), batch.targets.split(rows)):
            total = total + checkpoint(self._chunk, h, t, use_reentrant=False)
        return total

    def _chunk(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self._head[0](hidden).float()
        if self.softcap:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return F.cross_entropy(logits, targets, reduction="sum")
