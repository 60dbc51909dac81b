"""What to compute on and in which precision, and the reason in words."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .protocol import EngineError

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


@dataclass
class Device:
    torch: torch.device
    name: str  # for people: "cuda:0 (NVIDIA L4)"
    dtype: torch.dtype  # of frozen weights and of the products
    reason: str  # why this dtype

    @property
    def kind(self) -> str:
        return self.torch.type

    @property
    def mixed(self) -> bool:
        """Whether products run in half precision over F32 trained weights."""
        return self.dtype != torch.float32


def choose(wanted: str, precision: str, local_rank: int) -> Device:
    """Chooses the device; auto is CUDA (ROCm's build calls itself so too), else
    Apple's MPS, else the CPU."""
    if wanted == "auto":
        if torch.cuda.is_available():
            wanted = "cuda"
        else:
            wanted = "mps" if torch.backends.mps.is_available() else "cpu"
    if wanted in ("cuda", "rocm"):
        if not torch.cuda.is_available():
            raise EngineError("resources", "NO_DEVICE", "torch sees no CUDA device: " + cuda_fault())
        torch.cuda.set_device(local_rank)
        device = torch.device("cuda", local_rank)
        name = f"cuda:{local_rank} ({torch.cuda.get_device_name(local_rank)})"
    elif wanted == "mps":
        if not torch.backends.mps.is_available():
            raise EngineError("resources", "NO_DEVICE", "torch sees no MPS device")
        device, name = torch.device("mps"), "mps"
    else:
        device, name = torch.device("cpu"), "cpu"
    dtype, reason = _dtype(device, precision)
    return Device(device, name, dtype, reason)


def _dtype(device: torch.device, precision: str) -> tuple[torch.dtype, str]:
    if precision != "auto":
        return DTYPES[precision], "as configured"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "the device computes in BF16"
        return torch.float16, "the device has no BF16: F16 with a loss scale"
    if device.type == "mps":
        return torch.float32, "F32 on MPS"
    return torch.float32, "F32 on a CPU"


def cuda_fault() -> str:
    """Why there is no CUDA device, in the driver's words where it has some."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} was built without CUDA"
    try:
        torch.cuda.init()
    except Exception as e:  # whatever the driver says
        return str(e).splitlines()[0]
    return "the driver shows none"
