"""What a newcomer does with digits, command by command; what works runs in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from visionseq.cli import main

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/rectified_flow/digits_1rf.yaml")


def run(*arguments: str, cwd: Path, code: int = 0) -> str:
    environment = os.environ | {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1", "VISIONSEQ_OFFLINE": "1"}
    command = [sys.executable, "-m", "visionseq", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a finished short run in `runs/digits_1rf`."""
    folder = tmp_path_factory.mktemp("newcomer")
    output = run("fit", "--config", CONFIG, "--trainer.max_steps", "30", "--checkpoint_every", "10", cwd=folder)
    assert "run folder: runs/digits_1rf" in output.splitlines()
    return folder


def test_a_run_leaves_what_is_needed_to_repeat_it(trained):
    run_folder = trained / "runs/digits_1rf"
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 30
    assert "torch==" in (run_folder / "environment.txt").read_text()
    assert (run_folder / "checkpoints/last.ckpt").is_file()
    assert (run_folder / "checkpoints/previous.ckpt").is_file()
    assert (run_folder / "metrics.csv").read_text().splitlines()[0].startswith("step")
    assert {path.name for path in (run_folder / "model").iterdir()} == {
        "model.safetensors",
        "model.raw.safetensors",
        "config.json",
        "README.md",
    }


def test_the_run_draws_images(trained, tmp_path):
    output = run("sample", str(trained / "runs/digits_1rf"), "--num-samples", "6", "--steps", "2", cwd=tmp_path)
    assert "grid.png" in output
    images = np.load(tmp_path / "out/samples.npz", allow_pickle=False)["arr_0"]
    assert images.shape == (6, 8, 8, 1)
    assert images.dtype == np.uint8


def test_checkpoint_and_exported_model_draw_the_same(trained, tmp_path):
    for name, source in (("run", "."), ("model", "model")):
        model = str(trained / "runs/digits_1rf" / source)
        run("sample", model, "--num-samples", "4", "--steps", "1", "--out", name, cwd=tmp_path)
    arrays = [np.load(tmp_path / name / "samples.npz", allow_pickle=False)["arr_0"] for name in ("run", "model")]
    assert np.array_equal(*arrays)


def test_an_existing_run_is_neither_overwritten_nor_resumed_by_accident(trained):
    before = (trained / "runs/digits_1rf/checkpoints/last.ckpt").read_bytes()
    output = run("fit", "--config", CONFIG, "--trainer.max_steps", "30", cwd=trained, code=1)
    assert "--overwrite" in output
    assert "--ckpt_path last" in output
    assert (trained / "runs/digits_1rf/checkpoints/last.ckpt").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fit", "--config", CONFIG, "--model.init_args.no_such_thing", "1"], 2, "no_such_thing"),
        (["fit", "--config", "missing.yaml"], 2, "missing.yaml"),
        (["sample", "no-such-model"], 1, "no-such-model"),
        (["fit", "--config", CONFIG, "--ckpt_path", "nowhere.ckpt"], 1, "nowhere.ckpt"),
        (["test", "--config", CONFIG, "--ckpt_path", "rf-digits-2rf-pp"], 1, "no evaluation data"),
    ],
)
def test_mistakes_cost_one_readable_line(tmp_path, monkeypatch, capfd, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    output = "".join(capfd.readouterr())
    assert message in output
    assert len(output.strip().splitlines()) == 1, output


def test_samples_are_scored(trained, tmp_path):
    run("sample", str(trained / "runs/digits_1rf"), "--num-samples", "64", "--steps", "1", cwd=tmp_path)
    arguments = ["--samples", "out/samples.npz", "--reference", "digits", "--features", "features-digits"]
    output = run("score", *arguments, cwd=tmp_path)
    scores = json.loads(output[output.index("{") : output.rindex("}") + 1])
    assert "features-digits" in json.dumps(scores)
