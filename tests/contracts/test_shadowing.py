"""The folders `kernels` and `datasets` of the checkout never stand in for the packages of those names."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = """
import importlib.util, pathlib
for name in ("datasets", "kernels"):
    spec = importlib.util.find_spec(name)
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    assert not any(pathlib.Path(place).resolve().parent == pathlib.Path({root!r}) for place in places), (name, places)
    if spec is not None:
        __import__(name)
"""


def run_from_root(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_hugging_face_libraries_import_from_the_root():
    for package in ("diffusers", "transformers"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    code = "import transformers\nfrom diffusers import DDPMScheduler\n" + FOREIGN.format(root=str(ROOT))
    result = run_from_root("-c", code, PYTHONSAFEPATH="1")
    assert result.returncode == 0, result.stderr


def test_tools_run_without_the_safe_path():
    """tools/inspect.py would hide the standard library's `inspect` from everything that a tool imports."""
    check = (
        "import runpy, sys; sys.argv = ['tools/zoo.py', 'list']; sys.path.insert(0, 'tools')\n"
        "try: runpy.run_path('tools/zoo.py', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "import inspect; assert 'tools' not in inspect.__file__, inspect.__file__"
    )
    for arguments in (("-c", check), ("tools/zoo.py", "info", "--help"), ("tools/doctor.py", "--help")):
        result = run_from_root(*arguments)
        assert result.returncode == 0, result.stderr


def test_nothing_that_a_tool_imports_has_the_name_of_a_tool():
    """Tools drop their folder from the path in `run_tool`; what is imported before that must not need it."""
    names = sorted(path.stem for path in (ROOT / "tools").glob("*.py"))
    check = (
        "import sys; before = set(sys.modules)\n"
        "from visionseq.cli import run_tool\n"
        f"hidden = set({names}) & (set(sys.modules) - before); assert not hidden, hidden"
    )
    result = run_from_root("-c", check)
    assert result.returncode == 0, result.stderr


def test_a_tool_runs_through_a_link(tmp_path):
    for name in ("zoo.py", "inspect.py"):
        (tmp_path / name).symlink_to(ROOT / "tools" / name)
    for arguments in ((str(tmp_path / "zoo.py"), "info", "--help"), (str(tmp_path / "inspect.py"), "--help")):
        result = run_from_root(*arguments)
        assert result.returncode == 0, result.stderr


def test_makefile_and_ci_set_the_safe_path():
    assert "export PYTHONSAFEPATH := 1" in (ROOT / "Makefile").read_text()
