"""What to compute on and in which precision, and the reason in words."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch

from .protocol import EngineError

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


@dataclass
class Device:
    """A device and the precision of its products."""

    torch: torch.device
    name: str  # for people: "cuda:0 (NVIDIA L4)"
    dtype: torch.dtype  # of frozen weights and of the products
    reason: str  # why this dtype

    @property
    def kind(self) -> str:
        """The name by which torch calls its sort: cpu, cuda, mps."""
        return self.torch.type

    @property
    def ids(self) -> list[int] | None:
        """What DistributedDataParallel has to know: the card, of which there are many."""
        return [self.torch.index] if self.kind == "cuda" else None

    @property
    def fused(self) -> bool | None:
        """Whether AdamW updates all weights in one kernel; None: PyTorch chooses."""
        return True if self.kind == "cuda" else None

    @property
    def mixed(self) -> bool:
        """Whether products run in half precision over F32 trained weights."""
        return self.dtype != torch.float32


def choose(wanted: str, precision: str, local_rank: int) -> Device:
    """Chooses the device; auto is CUDA (ROCm's build calls itself so too), else
    Apple's MPS, else the CPU."""
    if wanted == "auto":
        apple = torch.backends.mps.is_available()
        wanted = "cuda" if torch.cuda.is_available() else "mps" if apple else "cpu"
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


def peak_bytes(device: Device) -> int:
    """The most memory that was in use so far: of the card, on the CPU of the process."""
    if device.kind == "cuda":
        return torch.cuda.max_memory_allocated(device.torch)
    if device.kind == "mps":
        return torch.mps.driver_allocated_memory()  # now: Metal keeps no peak
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cuda_fault() -> str:
    """Why there is no CUDA device, in the driver's words where it has some."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} was built without CUDA"
    try:
        torch.cuda.init()
    except Exception as e:  # whatever the driver says
        return str(e).splitlines()[0]
    return "the driver shows none"
