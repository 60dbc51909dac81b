"""Sequences become tensors: padded on the right, with the places that predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Batch:
    """The tensors of some sequences."""

    ids: torch.Tensor  # [rows, length]
    mask: torch.Tensor  # [rows, length], 1 where there is a token
    places: torch.Tensor  # [targets], in rows*length: whose output is a prediction
    targets: torch.Tensor  # [targets], what it should predict


def count_targets(sequences: list[dict[str, Any]]) -> int:
    """Counts what Batch makes targets of: the first token is never predicted."""
    return sum(max(0, to - max(start, 1)) for s in sequences for start, to in s["loss"])


def build(sequences: list[dict[str, Any]], device: torch.device) -> Batch:
    """Pads to the longest sequence and moves the tensors to the device."""
    length = max(len(s["tokens"]) for s in sequences)
    ids = torch.zeros(len(sequences), length, dtype=torch.long)
    mask = torch.zeros(len(sequences), length, dtype=torch.long)
    places: list[int] = []
    targets: list[int] = []
    for row, s in enumerate(sequences):
        tokens = s["tokens"]
        ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        mask[row, : len(tokens)] = 1
        for start, to in s["loss"]:
            for i in range(max(start, 1), to):
                places.append(row * length + i - 1)
                targets.append(tokens[i])
    return Batch(
        ids.to(device, non_blocking=True),
        mask.to(device, non_blocking=True),
        torch.tensor(places, dtype=torch.long).to(device, non_blocking=True),
        torch.tensor(targets, dtype=torch.long).to(device, non_blocking=True),
    )
