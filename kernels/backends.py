"""Which implementation of a kernel serves on this machine: Triton on a GPU, numba on the CPU, the reference everywhere.

`backend="auto"` takes the first of `BACKENDS` that can serve; the environment variable VISIONSEQ_BACKEND replaces
"auto", an explicit argument wins over both.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from visionseq.errors import KernelError

BACKENDS = ("triton", "cpu", "reference")  # from fast to plain


def choose_backend(device: str, backend: str = "auto", implemented: Sequence[str] = BACKENDS) -> str:
    """The backend for tensors on `device` ("cpu", "cuda", ...) among those that a kernel has.

    Raises `KernelError` for an unknown name and for a backend asked for by name that cannot serve.
    """
    wanted = os.environ.get("VISIONSEQ_BACKEND") or "auto" if backend == "auto" else backend
    if wanted == "auto":
        return next(name for name in BACKENDS if name in implemented and obstacle(name, device) is None)
    if wanted not in BACKENDS:
        raise KernelError(f"backend {wanted!r}, expected auto, {', '.join(BACKENDS)} (argument or VISIONSEQ_BACKEND)")
    reason = obstacle(wanted, device) if wanted in implemented else "this kernel does not have it"
    if reason is not None:
        raise KernelError(f"backend {wanted!r} cannot serve on {device}: {reason}")
    return wanted


def obstacle(backend: str, device: str) -> str | None:
    """Why a backend cannot serve tensors on `device`, or None where it can."""
    kind = device.partition(":")[0]
    if backend == "triton":
        if find_spec("triton") is None:
            return "triton is not installed"
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        return None if kind == "cuda" or interpreted else "triton needs a GPU (or TRITON_INTERPRET=1)"
    if backend == "cpu":
        if kind != "cpu":
            return "it serves tensors on the CPU"
        return "numba is not installed" if find_spec("numba") is None else None
    return None


def implemented_backends() -> dict[str, tuple[str, ...]]:
    """The backends in each operator's folder: gpu.py is Triton, cpu.py the CPU path, reference.py the definition."""
    files = {"triton": "gpu.py", "cpu": "cpu.py", "reference": "reference.py"}
    folders = sorted(reference.parent for reference in Path(__file__).parent.glob("*/reference.py"))
    return {folder.name: tuple(name for name in BACKENDS if (folder / files[name]).is_file()) for folder in folders}
