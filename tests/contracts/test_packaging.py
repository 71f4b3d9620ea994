"""The wheel holds all that an installation outside the checkout needs, and at the top level nothing but visionseq."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[2]
MAPPED = {"visionseq.configs": "configs", "visionseq.kernels": "kernels", "visionseq.model_zoo": "model_zoo"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_folders_beside_the_package_are_mapped_into_it():
    assert PROJECT["tool"]["setuptools"]["package-dir"] == MAPPED
    assert "packages" not in PROJECT["tool"]["setuptools"], "setup.py finds them"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the checkout without what was built in it."""
    folder = tmp_path_factory.mktemp("source") / "visionseq"
    ignored = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "__pycache__", "runs", "outputs", "tests", "docs", "out"
    )
    shutil.copytree(ROOT, folder, ignore=ignored)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    for module in ("build", "setuptools"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(source),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_sources_configs_index_and_weights(source, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"visionseq/kernels/{path.relative_to(source / 'kernels')}" for path in source.glob("kernels/**/*.py")}
    expected |= {str(path.relative_to(source)) for path in source.glob("visionseq/**/*.py*") if path.is_file()}
    expected |= {f"visionseq/{path.relative_to(source)}" for path in source.glob("configs/**/*.yaml")}
    shipped = [
        path for path in source.glob("model_zoo/*/*") if path.name in ("model.safetensors", "config.json", "README.md")
    ]
    expected |= {f"visionseq/{path.relative_to(source)}" for path in shipped} | {"visionseq/model_zoo/index.yaml"}
    assert expected <= names, sorted(expected - names)
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"visionseq", f"visionseq-{PROJECT['project']['version']}.dist-info"}
    assert not any(name.endswith((".so", ".pyd", ".dll")) for name in names)  # nothing is compiled


def test_version_is_the_packages():
    import visionseq

    assert visionseq.__version__ == PROJECT["project"]["version"]


def check_installation(python: Path | str, folder: Path, **environment: str) -> None:
    """The installed package, not the checkout, answers from another directory."""
    code = "import visionseq, visionseq.kernels.backends as b, visionseq.places as p; "
    code += (
        "print(visionseq.__file__, b.__file__, p.shipped_folder('configs'), p.shipped_folder('model_zoo'), sep='\\n')"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("VISIONSEQ", "PYTHONPATH"))}
    run = {"cwd": folder, "env": {**clean, "PYTHONSAFEPATH": "1", **environment}, "text": True, "timeout": 300}
    found = subprocess.run([python, "-c", code], capture_output=True, **run)
    assert found.returncode == 0, found.stderr
    places = found.stdout.split()
    assert not any(
        Path(place).is_relative_to(ROOT / part) for place in places for part in ("visionseq", "kernels", "configs")
    )
    verified = subprocess.run([python, "-m", "visionseq", "zoo", "verify"], capture_output=True, **run)
    assert verified.returncode == 0, verified.stderr
    assert "damaged" not in verified.stdout
    assert "absent" not in verified.stdout


def test_unpacked_wheel_works_elsewhere(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")  # our own archive
    (tmp_path / "elsewhere").mkdir()
    check_installation(sys.executable, tmp_path / "elsewhere", PYTHONPATH=str(tmp_path / "site"))


@pytest.mark.slow
def test_installed_wheel_works_elsewhere(wheel, tmp_path):
    """pip installs the wheel alone into a new environment; the dependencies are those of this one."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tmp_path / "elsewhere").mkdir()
    check_installation(python, tmp_path / "elsewhere")
    result = subprocess.run([tmp_path / "venv/bin/visionseq", "--version"], capture_output=True, text=True)
    assert result.stdout.strip() == f"visionseq {PROJECT['project']['version']}"
