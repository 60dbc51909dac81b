"""Answers the stage's requests, one after the other, on every worker alike."""

from __future__ import annotations

import traceback
from typing import Any

import torch

from . import checkpoint
from .device import DTYPES, peak_bytes
from .protocol import EngineError, Link, Open, Request
from .trainer import Trainer
from .workers import Workers


def run(link: Link | None, workers: Workers) -> int:
    """Serves until the stage closes. Returns the process's exit code."""
    trainer: Trainer | None = None
    while True:
        request = workers.share(link.receive() if link else None)
        if request["op"] == "close":
            if link:
                link.answer({"ok": {}})
            return 0
        try:
            if request["op"] == "open":
                trainer = Trainer(Open.parse(request), workers)
                result = trainer.describe()
            else:
                assert trainer is not None, "the first request must be open"
                result = _handle(trainer, request)
        except Exception as e:
            failure = _failure(e)
            if not link:
                raise  # torchrun ends the others, the stage sees them end
            link.answer({"error": failure})
            if workers.count > 1:
                raise
            continue
        if link:
            link.answer({"ok": result})


def _handle(t: Trainer, request: Request) -> dict[str, Any]:
    match request["op"]:
        case "step":
            return t.step(request["micro"], request["first_micro"], request["rate"], request["max_norm"])
        case "loss":
            return t.loss(request["batch"])
        case "measure":
            return {"peak_bytes": peak_bytes(t.device)}
        case "save":
            checkpoint.save(t, request["dir"])
        case "load":
            checkpoint.load(t, request["dir"], request["updates"])
        case "export":
            checkpoint.export(t, request["dir"], DTYPES[request["dtype"]], request.get("metadata", {}))
        case op:
            raise EngineError("internal", "UNKNOWN_REQUEST", f"there is no request {op!r}")
    return {}


def _failure(e: Exception) -> dict[str, str]:
    if isinstance(e, EngineError):
        return e.document()
    traceback.print_exc()  # into the stage's log
    if isinstance(e, (torch.OutOfMemoryError, MemoryError)):
        return EngineError(
            "resources", "OUT_OF_MEMORY", str(e).split("\n")[0],
            "lower training.batch_size and raise training.gradient_accumulation by the same factor, or choose a smaller model",
        ).document()
    return EngineError("internal", "ENGINE_FAILED", f"{type(e).__name__}: {e}").document()
