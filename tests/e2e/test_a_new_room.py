"""A room that only adds its own files, and a line in the documented places, is found by every command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dummy_room import FILES, PLACES, add_dummy_room
from room_furniture import missing_furniture

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("visionseq", "configs", "model_zoo", "docs/rooms", "README.md", "CHANGELOG.md")

COMMANDS = """
import sys
import torch
from visionseq.cli import main

torch.save({"network": {"official_factor": torch.tensor([0.5])}}, "official.pth")
for line in open(sys.argv[1]).read().splitlines():
    print("$", line, flush=True)
    assert main(line.split()) == 0, line
"""
LINES = """
convert dummy official.pth converted
convert dummy converted back.pth --reverse
fit --config {root}/configs/dummy/tiny.yaml
validate --config {root}/configs/dummy/tiny.yaml
test --config {root}/configs/dummy/tiny.yaml --ckpt_path converted
predict --config {root}/configs/dummy/tiny.yaml
sample runs/tiny --num-samples 8 --out out
score out/samples.npz --reference digits --features features-digits
zoo add runs/tiny --name dummy-tiny --index {root}/model_zoo/index.yaml --description Dummy. --licence mit
zoo list
zoo info dummy-tiny
zoo verify dummy-tiny
sample dummy-tiny --num-samples 2 --out again
claims dummy --out claims
benchmark dummy --rounds 2 --out benchmark.json
""".strip()


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A checkout with the dummy room in it."""
    root = tmp_path_factory.mktemp("house")
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    (root / "visionseq" / "kernels").symlink_to(ROOT / "kernels")
    add_dummy_room(root)
    return root


def test_every_command_finds_a_new_room(house, tmp_path):
    (tmp_path / "lines.txt").write_text(LINES.format(root=house))
    environment = {**os.environ, "PYTHONPATH": str(house), "PYTHONSAFEPATH": "1", "VISIONSEQ_OFFLINE": "1"}
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 600}
    result = subprocess.run([sys.executable, "-c", COMMANDS, "lines.txt"], **run)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "a dummy has a claim" in result.stdout
    assert {"out", "again", "converted", "back.pth", "back.json", "benchmark.json"} <= set(os.listdir(tmp_path))
    assert missing_furniture(house, "dummy") == []


def test_a_new_room_touches_few_places_of_the_house():
    assert len(PLACES) + len(("the citations",)) <= 4
    assert all("dummy" in name for name in FILES)
