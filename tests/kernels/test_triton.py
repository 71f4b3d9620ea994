"""Triton without a GPU: the kernels run in the interpreter, and compile for four targets without spilling."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from case_list import MODULES
from operator_case import OperatorCase
from torch.utils._pytree import tree_map

from visionseq.errors import KernelError
from visionseq.kernels.backends import implemented_backends

pytest.importorskip("triton")
from triton_compiled import TARGETS, launches_compiled_for, run_in_every_way, run_once, spills

HERE = Path(__file__).parent
ON_TRITON = [name for name, backends in implemented_backends().items() if "triton" in backends and name in MODULES]
ALL_ON_A_GPU = [case for name in ON_TRITON for case in MODULES[name].ON_A_GPU]
BY_WIDTH = [name for name in ON_TRITON if hasattr(MODULES[name], "WIDTHS")]
ALL_WIDTHS = [(name, width) for name in BY_WIDTH for width in MODULES[name].WIDTHS]
LIMITED = ("delta_rule", "gated_linear_attention", "grid_scan", "mlstm", "ttt_linear")  # in their widths
PORTABLE_SHARED = 99 * 1024  # bytes that every target grants a block


@pytest.mark.parametrize("operator", ON_TRITON)
def test_interpreter_agrees_with_the_reference(operator: str):
    interpret(operator, "one")


@pytest.mark.slow
@pytest.mark.parametrize("operator", ON_TRITON)
def test_interpreter_agrees_in_all_cases(operator: str):
    interpret(operator, "all")


@pytest.mark.slow
@pytest.mark.parametrize("operator", BY_WIDTH)
def test_interpreter_agrees_for_wide_heads(operator: str):
    interpret(operator, "wide")


def interpret(operator: str, extent: str) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(HERE)}
    command = [sys.executable, str(HERE / "triton_interpreted.py"), operator, extent]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "agrees" in done.stdout


@pytest.mark.parametrize("operator", ON_TRITON)
def test_compiles_for_sm_90(operator: str, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    module = MODULES[operator]
    if operator not in BY_WIDTH:
        check_launches(module.ON_A_GPU[0], "sm_90", torch.bfloat16)
        return
    check_launches(module.of_width(module.WIDTHS[0]), "sm_90", torch.bfloat16)
    check_launches(module.of_width(module.WIDTHS[-1]), "sm_90", torch.bfloat16, run_once)


@pytest.mark.parametrize("operator", LIMITED)
def test_a_head_too_wide_for_the_registers_is_refused(operator: str):
    module = MODULES[operator]
    widest = module.WIDTHS[-1]
    case = module.of_width(widest + 1)
    refused = pytest.raises(KernelError, match=f"up to {widest} channels.*got {widest + 1}.*backend='reference'")
    with launches_compiled_for(TARGETS["sm_90"]) as compiled, refused:
        case.call(tree_map(torch.Tensor.float, case.make(case.multiple)), backend="triton")
    assert not compiled


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", ALL_ON_A_GPU, ids=lambda case: case.name)
def test_compiles_for_all_targets(case: OperatorCase, target: str, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for dtype in (torch.bfloat16, torch.float32):
        check_launches(case, target, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("operator", "width"), ALL_WIDTHS)
def test_every_width_compiles_for_all_targets(operator: str, width: int, target: str, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for dtype in (torch.bfloat16, torch.float32):
        check_launches(MODULES[operator].of_width(width), target, dtype, run_once)


def check_launches(
    case: OperatorCase,
    target: str,
    dtype: torch.dtype,
    run: Callable[[OperatorCase, torch.dtype], None] = run_in_every_way,
) -> None:
    """Whatever an operator launches compiles, spills nothing and needs no more shared memory than all targets grant."""
    import_module(f"visionseq.kernels.{case.name.split('-')[0]}.gpu")
    with launches_compiled_for(TARGETS[target]) as compiled:
        run(case, dtype)
    assert compiled
    for (name, _), code in compiled.items():
        assert code.metadata.shared <= PORTABLE_SHARED, name
        assert spills(code, TARGETS[target].backend) == 0, name


def test_there_are_kernels():
    assert ON_TRITON
