"""The conversation with the training stage: JSON lines over a local socket.

A request is {"op": NAME, ...}, its answer {"ok": {...}} or {"error": {...}}.
One request is under way at a time.

    open   what to load (Open below)        -> what was opened
    step   one update (a list of batches)   -> loss_sum, targets, norm, skipped
    loss   a batch                          -> loss_sum, targets
    measure                                 -> peak_bytes: of the card, or resident
    save   a folder                         -> nothing
    load   a folder and the updates so far  -> nothing
    export a folder, a dtype, metadata      -> nothing
    close                                   -> nothing, and the engine ends

A sequence is {"tokens": [ids], "loss": [[from, to], ...]}: the half-open ranges of
tokens that are targets. The same document stands as Go types in wire.go.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
from dataclasses import dataclass, field, fields
from typing import Any

# The address to connect to, HOST:PORT, and what proves that we were invited.
ENV_ADDRESS = "TUNEMESH_PEFT_ADDRESS"
ENV_TOKEN = "TUNEMESH_PEFT_TOKEN"

Request = dict[str, Any]


@dataclass
class LoRA:
    """An adapter's settings, named as PEFT names them."""

    r: int
    lora_alpha: float
    lora_dropout: float
    use_rslora: bool
    target_modules: list[str]


@dataclass
class Open:
    """The request "open"."""

    model_dir: str
    method: str  # lora or full
    seed: int
    device: str  # auto, cpu, cuda, mps
    precision: str  # auto, f32, bf16, f16
    quantization: str = ""  # "", int8, int4: of the frozen base
    sharding: str = ""  # "" replicates the model on every worker, fsdp divides it
    weight_decay: float = 0.0
    recompute: bool = False  # gradient checkpointing
    lora: LoRA | None = None
    initial: str = ""  # folder of an adapter's first values; empty: PEFT chooses
    threads: int = 0  # of the CPU, per worker; 0: PyTorch chooses

    @staticmethod
    def parse(request: Request) -> Open:
        """Reads a request; what this version does not know is left out."""
        known = {f.name for f in fields(Open)}
        values = {k: v for k, v in request.items() if k in known}
        if values.get("lora"):
            values["lora"] = LoRA(**values["lora"])
        return Open(**values)


class EngineError(Exception):
    """A failure that the stage reports by class and code, as its contract has it."""

    def __init__(self, kind: str, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.kind, self.code, self.hint = kind, code, hint

    def document(self) -> dict[str, str]:
        """The failure as the stage reads it."""
        return {"class": self.kind, "code": self.code, "message": str(self), "hint": self.hint}


@dataclass
class Link:
    """The first worker's end of the socket."""

    sock: socket.socket
    requests: queue.Queue[Request] = field(default_factory=queue.Queue)

    @staticmethod
    def connect() -> Link:
        """Connects to the stage that started us, and shows its token."""
        host, _, port = os.environ[ENV_ADDRESS].rpartition(":")
        sock = socket.create_connection((host, int(port)), timeout=60)
        sock.settimeout(None)
        sock.sendall(os.environ[ENV_TOKEN].encode() + b"\n")
        link = Link(sock)
        threading.Thread(target=link._read, daemon=True).start()
        return link

    def _read(self) -> None:
        """Reads ahead, so that the death of the stage is seen in mid-step: its
        engine must not hold the memory that the next attempt needs."""
        closing = False
        with self.sock.makefile("rb") as lines:
            try:
                for line in lines:
                    request = json.loads(line)
                    closing = request["op"] == "close"
                    self.requests.put(request)
            except OSError:
                pass
        if not closing:
            os._exit(3)

    def receive(self) -> Request:
        """Waits for the next request."""
        return self.requests.get()

    def answer(self, document: dict[str, Any]) -> None:
        """Sends the answer to the request before."""
        # json writes NaN and Infinity, which are no JSON: the stage expects null.
        self.sock.sendall(json.dumps(_finite(document)).encode() + b"\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and value - value != 0.0:
        return None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return value
