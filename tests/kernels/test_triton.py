"""Triton without a GPU: the kernels run in the interpreter, and compile for four targets without spilling."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from case_list import MODULES

from visionseq.kernels.backends import implemented_backends

triton = pytest.importorskip("triton")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

HERE = Path(__file__).parent
ON_TRITON = [name for name, backends in implemented_backends().items() if "triton" in backends and name in MODULES]
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
PORTABLE_SHARED = 99 * 1024  # bytes that every target grants a block
SPILLS = {"cuda": r"STACK:(\d+)", "hip": r"\.vgpr_spill_count:\s+(\d+)"}


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
    compile_all(operator, "sm_90", tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_100", "gfx942"])
@pytest.mark.parametrize("operator", ON_TRITON)
def test_compiles_for_the_other_targets(operator: str, target: str, tmp_path, monkeypatch):
    compile_all(operator, target, tmp_path, monkeypatch)


def compile_all(operator: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernels = list(MODULES[operator].triton_kernels())
    assert kernels
    for kernel, types, constants in kernels:
        signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
        constants = {name: constants[name] for name, kind in signature.items() if kind == "constexpr"}
        aligned = [i for i, name in enumerate(kernel.arg_names) if types.get(name, "").startswith("*")]
        attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
        source = ASTSource(kernel, signature, constants, attributes)
        compiled = triton.compile(source, target=TARGETS[target], options={"num_warps": 4, "num_stages": 3})
        assert compiled.metadata.shared <= PORTABLE_SHARED, kernel
        assert spills(compiled, TARGETS[target].backend) == 0, kernel


def spills(compiled, backend: str) -> int:
    """Bytes or registers that do not fit into the registers of a thread."""
    if backend == "hip":
        text = compiled.asm["amdgcn"]
    else:
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compiled.asm["cubin"])
            file.flush()
            command = [str(tool), "--dump-resource-usage", file.name]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(SPILLS[backend], text)
    assert found, text[-500:]
    return sum(map(int, found))


def test_there_are_kernels():
    assert ON_TRITON
