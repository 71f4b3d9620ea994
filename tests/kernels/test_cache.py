"""Where the code of the CPU kernels is kept, and what is said about it: in processes of their own, on a small copy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import visionseq.errors
import visionseq.kernels

USE = """
import logging, pwd, sys
from pathlib import Path

logging.basicConfig(format="%(message)s")
def no_entry(_):
    raise KeyError("no such user")
if "nobody" in sys.argv:
    pwd.getpwuid = no_entry
import torch
import visionseq.kernels.compiled
visionseq.kernels.compiled.ANNOUNCE_AFTER = 0.0
from visionseq.kernels import delta_rule, linear_scan

assert visionseq.kernels.__file__.startswith(str(Path(sys.argv[1]).resolve())), visionseq.kernels.__file__
ones = torch.ones(1, 3, 4)
assert linear_scan(ones, ones, backend="cpu")[1].tolist() == [[3.0] * 4]
if "two" in sys.argv:
    delta_rule(*[torch.ones(1, 2, 1, 3)] * 5, backend="cpu")
"""

HELPED = """
from visionseq.kernels.compiled import compiled
from visionseq.kernels.helper import inner

@compiled
def outer():
    return inner()
"""
HELPER = """
from visionseq.kernels.compiled import inlined

@inlined
def inner():
    return {}
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the kernels alone, without what has been compiled for them."""
    root = tmp_path / "install" / "visionseq"
    root.mkdir(parents=True)
    shutil.copy(Path(visionseq.errors.__file__), root)
    (root / "__init__.py").touch()
    source = Path(visionseq.kernels.__file__).parent
    shutil.copytree(source, root / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    return root


def write_protect(package: Path) -> None:
    """No results beside the sources, not even for root: a file stands where their folder would be made."""
    for folder in {path.parent for path in package.rglob("*.py")}:
        (folder / "__pycache__").touch()


def use(package: Path, *words: str, **environment: str | None) -> str:
    """Standard error of a process that calls a kernel in an empty working directory, which stays empty."""
    here = package.parents[1] / "working"
    here.mkdir(exist_ok=True)
    changed = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": None}
    variables = os.environ | changed | environment
    variables = {name: value for name, value in variables.items() if value is not None}
    command = [sys.executable, "-c", USE, str(package.parent), *words]
    done = subprocess.run(command, env=variables, cwd=here, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(here.iterdir()) == []
    return done.stderr


def test_compiling_is_announced_only_where_something_is_compiled(package: Path, tmp_path: Path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert "compiling visionseq.kernels.linear_scan.cpu for this processor; the result is kept" in use(package, **cache)
    assert "compiling" not in use(package, **cache)


def test_a_home_that_cannot_be_written(package: Path):
    write_protect(package)
    said = use(package, "two", HOME="/dev/null/nowhere", XDG_CACHE_HOME=None)
    assert said.count("no folder can be written") == 1
    assert said.count("compiling") == 1


def test_a_user_without_a_home(package: Path):
    write_protect(package)
    said = use(package, "nobody", HOME=None, XDG_CACHE_HOME=None)
    assert said.count("no folder can be written") == 1


def test_a_user_without_a_home_who_may_write_the_package(package: Path):
    assert "the result is kept" in use(package, "nobody", HOME=None, XDG_CACHE_HOME=None)
    assert list(package.rglob("*.nbi"))


def test_a_change_in_a_helper_is_seen(helped: Path):
    """numba itself looks at the file of the function that is called, and not at those that were compiled into it."""
    assert call_helped(helped) == ("1\n", "")
    (helped / "kernels" / "helper.py").write_text(HELPER.format(22))
    assert call_helped(helped) == ("22\n", "")


def test_a_disk_that_is_full(helped: Path):
    result, said = call_helped(helped, "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))")
    assert result == "1\n"
    assert said.count("compiled code cannot be kept") == 1
    assert str(helped) in said


@pytest.fixture
def helped(package: Path) -> Path:
    """The package with a compiled function that calls one of another file."""
    (package / "kernels" / "helped.py").write_text(HELPED)
    (package / "kernels" / "helper.py").write_text(HELPER.format(1))
    return package


def call_helped(package: Path, before: str = "pass") -> tuple[str, str]:
    """What a process prints that calls the function of `helped`, and its standard error."""
    code = f"{before}\nfrom visionseq.kernels.helped import outer\nprint(outer())"
    variables = os.environ | {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    variables.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, done.stderr
