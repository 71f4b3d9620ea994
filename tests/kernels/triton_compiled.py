"""Compiling what an operator launches: its Triton kernels with their real arguments, for a GPU that is not there.

The host's code runs on the CPU as it would on a GPU. A launch compiles the kernel for the target, with the absent
arguments, the alignments and the number of warps of that very call, and computes nothing.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from operator_case import OperatorCase
from torch.utils._pytree import tree_leaves, tree_map
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
SPILLS = {"cuda": r"STACK:(\d+)", "hip": r"\.vgpr_spill_count:\s+(\d+)"}


class NoDevice:
    """What Triton asks of a driver before it compiles."""

    def __init__(self, target: GPUTarget):
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def launches_compiled_for(target: GPUTarget) -> Iterator[dict[tuple[str, str], Any]]:
    """Inside, launches only compile; the compiled kernels by their names and hashes."""
    compiled: dict[tuple[str, str], Any] = {}

    def launch(kernel: JITFunction, *args: Any, grid: Any, **kwargs: Any) -> None:
        code = kernel.warmup(*args, grid=grid, **kwargs)
        compiled[kernel.fn.__name__, code.hash] = code

    no_device = mock.patch.object(driver, "_active", NoDevice(target))
    by_grid = mock.patch.object(JITFunction, "__getitem__", lambda self, grid: partial(launch, self, grid=grid))
    with no_device, by_grid, mock.patch.dict(os.environ, {"TRITON_INTERPRET": "1"}):  # lets CPU tensors through
        yield compiled


def run_in_every_way(case: OperatorCase, dtype: torch.dtype) -> None:
    """Forward and backward, with and without a state, with the loss on all results, on the first, and on the last."""
    for state in (True, False) if case.state is not None else (True,):
        for options in ({}, {"reverse": True}) if case.reversible else ({},):
            for losses in (slice(None), slice(1), slice(-1, None)):
                run_once(case, dtype, state, losses, **options)


def run_once(
    case: OperatorCase, dtype: torch.dtype, state: bool = True, losses: slice = slice(None), **options: Any
) -> None:
    """Forward, and backward from the results that `losses` selects."""
    values = tree_map(lambda x: x.to(dtype).requires_grad_(), case.make(2 * case.multiple, state=state))
    results = [x for x in tree_leaves(case.call(values, backend="triton", **options)) if x is not None][losses]
    torch.autograd.grad(results, tree_leaves(values), list(map(torch.ones_like, results)), allow_unused=True)


def spills(compiled: Any, backend: str) -> int:
    """Bytes or registers that have no room in the registers of a thread."""
    if backend == "hip":
        text = compiled.asm["amdgcn"]
    else:
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compiled.asm["cubin"])
            file.flush()
            command = [str(tool), "--dump-resource-usage", file.name]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    counts = re.findall(SPILLS[backend], text)
    assert counts, text[-500:]
    return sum(map(int, counts))
