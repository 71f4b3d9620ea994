"""Which implementation of a kernel serves on this machine: Triton on a GPU, numba on the CPU, the reference everywhere.

`backend="auto"` takes the first of `BACKENDS` that can serve; the environment variable VISIONSEQ_BACKEND replaces
"auto", an explicit argument wins over both.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from visionseq.errors import KernelError

BACKENDS = ("triton", "cpu", "reference")  # from fast to plain


def choose_backend(
    device: str,
    backend: str = "auto",
    implemented: Sequence[str] = BACKENDS,
    double: bool = False,
    transformed: bool = False,
) -> str:
    """The backend for tensors on `device` ("cpu", "cuda", ...), among those that a kernel has.

    Args:
        device: type of the tensors' device.
        backend: "auto" or one by name.
        implemented: those that the kernel has.
        double: the tensors are float64.
        transformed: a forward-mode derivative or a transform of torch.func is being taken.

    Raises:
        KernelError: an unknown name, or a backend asked for by name that cannot serve.
    """
    name = os.environ.get("VISIONSEQ_BACKEND") or "auto" if backend == "auto" else backend
    if name == "auto":
        able = (name for name in BACKENDS if name in implemented)
        return next(name for name in able if obstacle(name, device, double, transformed) is None)
    if name not in BACKENDS:
        raise KernelError(f"backend {name!r}, expected auto, {', '.join(BACKENDS)} (argument or VISIONSEQ_BACKEND)")
    reason = obstacle(name, device, double, transformed) if name in implemented else "this kernel does not have it"
    if reason is not None:
        raise KernelError(f"backend {name!r} cannot serve on {device}: {reason}")
    return name


def obstacle(backend: str, device: str, double: bool = False, transformed: bool = False) -> str | None:
    """Why a backend cannot serve tensors on `device`, or None where it can."""
    if backend == "reference":
        return None
    if double:
        return "it computes in float32; float64 is for backend='reference'"
    if transformed:
        return "it has no forward-mode derivatives and no transforms of torch.func; backend='reference' has"
    kind = device.partition(":")[0]
    if backend == "triton":
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        if kind != "cuda" and not interpreted:
            return "triton needs a GPU (or TRITON_INTERPRET=1)"
        return _missing("triton")
    return _missing("numba") if kind == "cpu" else "it serves tensors on the CPU"


@lru_cache
def implemented_backends() -> dict[str, tuple[str, ...]]:
    """The backends in each operator's folder: gpu.py is Triton, cpu.py the CPU path, reference.py the definition."""
    files = {"triton": "gpu.py", "cpu": "cpu.py", "reference": "reference.py"}
    folders = sorted(reference.parent for reference in Path(__file__).parent.glob("*/reference.py"))
    return {folder.name: tuple(name for name in BACKENDS if (folder / files[name]).is_file()) for folder in folders}


@lru_cache
def _missing(module: str) -> str | None:
    """Why a compiler cannot be used: it is not installed, or its import fails."""
    if find_spec(module) is None:
        return f"{module} is not installed"
    try:
        import_module(module)
    except Exception as error:
        return f"{module} does not load: {error}"
    return None
