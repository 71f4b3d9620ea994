"""What a run leaves on disk, and what it refuses to overwrite."""

import csv
import io
import time
from importlib.metadata import version

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_task import tiny_fit

import visionseq
from visionseq.errors import ConfigError
from visionseq.training.metrics_file import read_metrics
from visionseq.training.run_folder import check_drift, check_run_folder, prepare_run_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Thirty updates, of which the last six come after a resume."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    tiny_fit(folder, max_steps=24)
    tiny_fit(folder, max_steps=30, ckpt_path="last")
    return folder


def test_a_run_records_packages_commit_and_its_model_with_a_card(run):
    packages = (run / "environment.txt").read_text().splitlines()
    assert packages[0].startswith("python==")
    assert f"lightning=={version('lightning')}" in packages
    assert (run / "commit.txt").read_text().strip()
    assert visionseq.load(run / "model").preprocessing["channels"] == 1
    card = (run / "model" / "README.md").read_text()
    for fact in (
        "EDMVelocity",
        "1,840 parameters",
        "30 updates",
        "seed",
        "commit",
        "hardware",
        "wall time",
        "val/loss",
    ):
        assert fact in card


def test_metrics_have_a_row_per_interval_and_per_validation(run):
    rows = read_metrics(run / "metrics.csv")
    assert [int(row["step"]) for row in rows if "train/loss" in row] == list(range(3, 31, 3))
    assert [int(row["step"]) for row in rows if "val/loss" in row] == [10, 20, 30]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    header, *lines = csv.reader(io.StringIO((run / "metrics.csv").read_text()))
    assert header == ["step", "lr", "train/loss", "val/loss"]
    assert all(len(line) == 4 for line in lines)


def test_a_row_that_a_kill_cut_short_is_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,lr\r\n3,0.1\r\n6,0.")
    assert read_metrics(path) == [{"step": "3", "lr": "0.1"}]


def test_pictures_and_scalars_are_in_the_folder_and_in_tensorboard(run):
    steps = ("step_00000024.png", "step_00000025.png", "step_00000030.png")
    assert sorted(path.name for path in (run / "samples").iterdir()) == list(steps)
    assert Image.open(run / "samples" / steps[0]).size[0] >= 128
    log = EventAccumulator(str(run / "tensorboard"))
    log.Reload()
    assert {"lr", "train/loss", "val/loss"} <= set(log.Tags()["scalars"])
    assert [event.step for event in log.Scalars("train/loss")] == list(range(3, 31, 3))
    assert [event.step for event in log.Images("samples")] == [24, 25, 30]


def test_an_earlier_run_is_replaced_or_resumed_by_choice_alone(run):
    before = (run / "metrics.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"holds an earlier run; resume it with --ckpt_path last, .* --overwrite"):
        tiny_fit(run, max_steps=3)
    assert (run / "metrics.csv").read_bytes() == before


def test_overwriting_removes_the_run_and_nothing_else(tmp_path):
    tiny_fit(tmp_path / "run", max_steps=8)
    (tmp_path / "run/notes.txt").write_text("mine")
    tiny_fit(tmp_path / "run", max_steps=6, overwrite=True)
    assert (tmp_path / "run/notes.txt").read_text() == "mine"
    assert [row["step"] for row in read_metrics(tmp_path / "run/metrics.csv")] == ["3", "6"]
    assert not (tmp_path / "run/checkpoints/previous.ckpt").exists()


def test_a_folder_that_is_no_run_is_never_taken(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/one.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"letters holds one\.txt, expected a new or a run's folder"):
            check_run_folder(tmp_path / "letters", resume=False, overwrite=overwrite)
    with pytest.raises(ConfigError, match="is a file, expected a folder"):
        prepare_run_folder(tmp_path / "letters/one.txt", resume=False, overwrite=True)


CONFIG = {
    "model": {"class_path": "a.B", "init_args": {"lr": 0.1, "steps": [1, 2]}},
    "trainer": {"max_steps": 10, "devices": 1, "precision": "32-true"},
    "data": {"batch_size": 4},
    "run_dir": "runs/a",
}


@pytest.mark.parametrize(
    "change",
    [{}, {"run_dir": "runs/b"}, {"trainer": {"max_steps": 99, "devices": 2, "precision": "32-true"}}],
)
def test_a_resume_may_go_further_and_elsewhere(change):
    check_drift(CONFIG, {**CONFIG, **change}, "config.yaml")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data": {"batch_size": 8}}, "data.batch_size: 4 -> 8"),
        ({"model": {"class_path": "a.B", "init_args": {"lr": 0.1, "steps": [1, 3]}}}, "steps.1: 2 -> 3"),
        ({"trainer": {"max_steps": 10, "devices": 1, "precision": "bf16-mixed"}}, "'32-true' -> 'bf16-mixed'"),
        ({"extra": True}, "extra: None -> True"),
    ],
)
def test_a_resume_that_would_compute_something_else_is_refused(change, told):
    with pytest.raises(ConfigError, match="not the one that the run began with") as refused:
        check_drift(CONFIG, {**CONFIG, **change}, "config.yaml")
    assert told in str(refused.value)


class Clock:
    """Time that passes a second at every look."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_off_a_terminal_there_are_plain_lines_at_most_one_in_ten_seconds(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(time, "monotonic", clock := Clock())
    tiny_fit(tmp_path / "run", max_steps=30, progress=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert 3 <= len(lines) <= clock.now / 10 + 1
    assert lines[-1].startswith("step 30/30  loss ")
    for line in lines:
        facts = ("validate batch ",) if "validate" in line else ("loss ", "lr ", "images/s")
        assert all(word in line for word in (*facts, "ETA ")), line
        assert "\x1b" not in line


def test_the_bar_shows_loss_and_rate(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    tiny_fit(tmp_path / "run", max_steps=12, progress=True)
    shown = capsys.readouterr().out
    assert "12/12" in shown
    assert "loss" in shown
    assert "images/s" in shown
