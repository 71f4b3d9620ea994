"""Two processes on one machine (gloo) train like one process with the same global batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_task import TinyTask, tiny_fit

from visionseq.optim.factory import OptimizerConfig
from visionseq.training.metrics_file import read_metrics

SCRIPT = Path(__file__).with_name("two_processes.py")
# Started by torchrun, the processes take rank and address from these; a test leaves nothing of them behind.
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def two_processes(run: Path, strategy: str, **options: object) -> None:
    words = [f"{name}={value}" for name, value in options.items()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*LAUNCHER, str(SCRIPT), str(run), strategy, *words], check=True, env=environment)


def one_process(run: Path, optimizer: OptimizerConfig | None = None, **options: object) -> None:
    tiny_fit(run, TinyTask(optimizer, dropout=0.0), **options)


def assert_equal_but_for_rounding(run: Path, other: Path) -> None:
    """Logged losses and rates, weights and averages: the same to the order of float32 sums."""
    rows, others = read_metrics(run / "metrics.csv"), read_metrics(other / "metrics.csv")
    assert [row.keys() for row in rows] == [row.keys() for row in others]
    for row, expected in zip(rows, others, strict=True):
        for name, value in expected.items():
            assert float(row[name]) == pytest.approx(float(value), rel=1e-5, abs=1e-6), name
    first, second = (torch.load(path / "checkpoints/last.ckpt", weights_only=True) for path in (run, other))
    for part in ("state_dict", "ema"):
        assert first[part].keys() == second[part].keys()
        for name, value in first[part].items():
            torch.testing.assert_close(value, second[part][name], rtol=1e-5, atol=1e-6)


def test_two_processes_train_like_one(tmp_path):
    two_processes(tmp_path / "two", "ddp", max_steps=24)
    one_process(tmp_path / "one", max_steps=24)
    assert_equal_but_for_rounding(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
def test_two_processes_accumulate_resume_and_share_a_loss_scale(tmp_path):
    options = {"accumulate_grad_batches": 2, "limit_train_batches": 4}
    two_processes(tmp_path / "two", "ddp", max_steps=16, loss_scale=64, **options)
    two_processes(tmp_path / "two", "ddp", max_steps=24, loss_scale=64, ckpt_path="last", **options)
    one_process(tmp_path / "one", max_steps=16, **options)
    one_process(tmp_path / "one", max_steps=24, ckpt_path="last", **options)
    assert_equal_but_for_rounding(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
def test_sharded_parameters_train_average_save_and_resume_like_whole_ones(tmp_path):
    # With one moment: torch 2.15 gathers the second moment of Adam in place of the first where shards are on a CPU.
    sgd = OptimizerConfig(lr=1e-2, name="sgd", betas=(0.9, 0.0))
    two_processes(tmp_path / "two", "fsdp", optimizer="sgd", max_steps=16)
    two_processes(tmp_path / "two", "fsdp", optimizer="sgd", max_steps=24, ckpt_path="last")
    one_process(tmp_path / "one", sgd, max_steps=16)
    one_process(tmp_path / "one", sgd, max_steps=24, ckpt_path="last")
    assert_equal_but_for_rounding(tmp_path / "two", tmp_path / "one")
    exported = [load_file(tmp_path / name / "model/model.safetensors") for name in ("two", "one")]
    assert exported[0].keys() == exported[1].keys()
    for name, value in exported[0].items():
        torch.testing.assert_close(value, exported[1][name], rtol=1e-5, atol=1e-6)
