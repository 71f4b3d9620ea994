"""The recipe of the digits student, as shipped, stopped and killed on the way."""

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import visionseq
from visionseq.cli import main
from visionseq.places import shipped_folder

ROOT = Path(__file__).resolve().parents[2]
CONFIG = shipped_folder("configs") / "rectified_flow" / "digits_2rf_pp.yaml"
STEPS = 300


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pairs") / "digits"


def words(run: Path, pairs: Path, steps: int, *more: str) -> list[str]:
    """Arguments of a short training with few pairs."""
    settings = {
        "--config": CONFIG,
        "--run_dir": run,
        "--data.init_args.path": pairs,
        "--data.init_args.num_pairs": 300,
        "--data.init_args.batch_size": 16,
        "--data.init_args.samples_per_epoch": 300,
        "--trainer.max_steps": steps,
        "--trainer.accelerator": "cpu",
        "--checkpoint_every": 20,
        "--log_every": 10,
        "--picture_every": 150,
    }
    return ["fit", *(str(word) for pair in settings.items() for word in pair), *more]


def assert_same_run(run: Path, other: Path) -> None:
    states = [torch.load(r / "checkpoints/last.ckpt", weights_only=True) for r in (run, other)]
    for part in ("state_dict", "ema"):
        assert all(torch.equal(value, states[1][part][name]) for name, value in states[0][part].items())
    moments = [state["optimizer_states"][0]["state"] for state in states]
    for index, moment in moments[0].items():
        assert all(torch.equal(value, moments[1][index][name]) for name, value in moment.items())
    assert states[0]["ReflowPairs"] == states[1]["ReflowPairs"] == {"position": 16 * states[0]["global_step"]}
    assert (run / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()


def test_an_interrupted_student_goes_on_to_the_bit(tmp_path, pairs):
    interrupt = tmp_path / "interrupt.yaml"
    interrupt.write_text("trainer: {callbacks: [{class_path: tiny_task.Interrupt, init_args: {step: 15}}]}\n")
    assert main(words(tmp_path / "run", pairs, 26, "--config", str(interrupt))) == 130
    assert main(words(tmp_path / "run", pairs, 26, "--ckpt_path", "last")) == 0
    assert main(words(tmp_path / "whole", pairs, 26)) == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    loaded = visionseq.load(tmp_path / "run")
    assert loaded.preprocessing["channels"] == 1
    assert loaded.sample(torch.zeros(2, 1, 8, 8)).isfinite().all()


@pytest.mark.slow
def test_a_student_killed_by_sigkill_goes_on_to_the_bit(tmp_path, pairs):
    def train(run: Path, kill_after: float | None = None) -> int:
        command = [sys.executable, str(ROOT / "tools/train.py"), *words(run, pairs, STEPS, "--ckpt_path", "last")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        timer = threading.Timer(kill_after or 0, process.kill)
        if kill_after is not None:
            timer.start()
        code = process.wait()
        timer.cancel()
        return code

    start = time.monotonic()
    assert train(tmp_path / "whole") == 0
    whole = time.monotonic() - start
    chance = random.Random(0)
    kills = sum(train(tmp_path / "run", chance.uniform(0.5, 0.9) * whole) == -9 for _ in range(4))
    assert kills
    assert train(tmp_path / "run") == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")
