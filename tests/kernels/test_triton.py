"""Triton without a GPU: the kernels run in the interpreter, and compile for four targets without spilling."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from case_list import MODULES
from operator_case import OperatorCase

from visionseq.kernels.backends import implemented_backends

pytest.importorskip("triton")
from triton_compiled import TARGETS, launches_compiled_for, run_in_every_way, spills

HERE = Path(__file__).parent
ON_TRITON = [name for name, backends in implemented_backends().items() if "triton" in backends and name in MODULES]
ALL_ON_A_GPU = [case for name in ON_TRITON for case in MODULES[name].ON_A_GPU]
PORTABLE_SHARED = 99 * 1024  # bytes that every target grants a block


@pytest.mark.parametrize("operator", ON_TRITON)
def test_interpreter_agrees_with_the_reference(operator: str):
    interpret(operator, "one")


@pytest.mark.slow
@pytest.mark.parametrize("operator", ON_TRITON)
def test_interpreter_agrees_in_all_cases(operator: str):
    interpret(operator, "all")


def interpret(operator: str, extent: str) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(HERE)}
    command = [sys.executable, str(HERE / "triton_interpreted.py"), operator, extent]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "agrees" in done.stdout


@pytest.mark.parametrize("operator", ON_TRITON)
def test_compiles_for_sm_90(operator: str, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    check_launches(MODULES[operator].ON_A_GPU[0], "sm_90", torch.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", ALL_ON_A_GPU, ids=lambda case: case.name)
def test_compiles_for_all_targets(case: OperatorCase, target: str, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for dtype in (torch.bfloat16, torch.float32):
        check_launches(case, target, dtype)


def check_launches(case: OperatorCase, target: str, dtype: torch.dtype) -> None:
    """Whatever an operator launches compiles, spills nothing and needs no more shared memory than all targets grant."""
    import_module(f"visionseq.kernels.{case.name.split('-')[0]}.gpu")
    with launches_compiled_for(TARGETS[target]) as compiled:
        run_in_every_way(case, dtype)
    assert compiled
    for (name, _), code in compiled.items():
        assert code.metadata.shared <= PORTABLE_SHARED, name
        assert spills(code, TARGETS[target].backend) == 0, name


def test_there_are_kernels():
    assert ON_TRITON
