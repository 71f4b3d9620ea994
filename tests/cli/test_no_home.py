"""Without a home, or with one that may not be entered, and with an install that may not be written: all works.

The commands run as another user, who owns the current folder alone. That takes root; others run them with a HOME below
a file, where nothing can be made.
"""

import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import visionseq
from visionseq import places

USER = 54321  # has no account
CHECKOUT = Path(visionseq.__file__).parents[1]
RUN = """
import json, os, site, sys
for folder in os.environ["PACKAGES"].split(os.pathsep):
    site.addsitedir(folder)
from visionseq.cli import main
for words in json.loads(sys.argv[1]):
    if code := main(words):
        sys.exit(code)
"""


def other_user() -> dict:
    """Options of `subprocess.run` for another user, where this one is root; otherwise none."""
    return {"user": USER, "group": USER, "extra_groups": []} if os.name == "posix" and os.getuid() == 0 else {}


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter of this version that the other user may start."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (os.path.realpath(sys.executable), shutil.which(version, path="/usr/bin:/usr/local/bin")):
        try:
            if candidate and subprocess.run([candidate, "-c", ""], **other_user(), check=False).returncode == 0:
                return candidate
        except PermissionError:
            pass
    pytest.skip(f"no {version} that another user may start")


@pytest.fixture(params=["no home", "a home that may not be entered"])
def homeless(request, python):
    """A function that runs commands in one process of the other user in a folder of theirs, and the folder."""
    base = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    closed, here = base / "closed", base / "here"
    closed.mkdir(mode=0o700)
    here.mkdir()
    base.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    environment["PACKAGES"] = os.pathsep.join([*site.getsitepackages(), str(CHECKOUT)])
    if other_user():
        os.chown(here, USER, USER)
        environment |= {} if request.param == "no home" else {"HOME": str(closed)}
    else:
        (base / "file").touch()
        environment["HOME"] = str(base / "file" / "home")

    def run(*commands: list[str]) -> subprocess.CompletedProcess:
        options = {"capture_output": True, "text": True, "timeout": 600, "check": False, **other_user()}
        return subprocess.run([python, "-c", RUN, json.dumps(commands)], cwd=here, env=environment, **options)

    yield run, here
    shutil.rmtree(base)


def test_commands_work_without_a_home(homeless):
    run, here = homeless
    result = run(
        ["zoo", "list"],
        ["zoo", "info", "rf-digits-2rf-pp"],
        ["zoo", "verify"],
        ["doctor"],
        ["inspect", "digits", "--limit", "4", "--out", "digits.png"],
        ["sample", "rf-digits-2rf-pp", "--num-samples", "2", "--steps", "1", "--out", "out"],
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert {path.name for path in here.iterdir()} == {"digits.png", "out"}


@pytest.mark.slow
def test_detect_works_without_a_home(homeless):
    run, here = homeless
    np.random.default_rng(0).random((50, 4), np.float32).tofile(here / "scan.bin")
    result = run(["detect", "lion-mamba-lidarworld", "--input", "scan.bin", "--out", "out"])
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert {path.name for path in here.iterdir()} == {"scan.bin", "out"}


def test_a_download_without_a_cache_goes_to_a_temporary_folder_and_says_so_once(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VISIONSEQ_CACHE", str(tmp_path / "file" / "cache"))
    for function in (places._substitute, places._temporary_folder):
        function.cache_clear()
    folders = [places.writable_cache("zoo") for _ in range(2)]
    assert folders[0] == folders[1]
    assert folders[0].parents[0].is_dir()
    assert tmp_path not in folders[0].parents
    assert [record.getMessage() for record in caplog.records if "cannot be written" in record.getMessage()] == [
        f"the cache {tmp_path / 'file' / 'cache'} cannot be written: {folders[0].parent} serves until this process "
        "ends; VISIONSEQ_CACHE names another place"
    ]


def test_a_writable_cache_is_used_and_not_made_before_its_use(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONSEQ_CACHE", str(tmp_path / "cache"))
    assert places.writable_cache("zoo") == places.cache_folder("zoo") == tmp_path / "cache" / "zoo"
    assert not (tmp_path / "cache").exists()
