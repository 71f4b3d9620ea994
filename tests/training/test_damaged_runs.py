"""Runs that were damaged, killed at their first file, started twice or met a full disk: they go on, or say why not."""

import logging
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from lightning import Callback
from tiny_task import BATCH, TinyTask, tiny_data, tiny_fit

from visionseq.data.image_data import ImageData
from visionseq.data.loader import LoaderOptions
from visionseq.data.sources import ImageSource
from visionseq.errors import CheckpointError, ConfigError, DataError, WriteError
from visionseq.training import fit
from visionseq.training.checkpoint_io import read_training_checkpoint
from visionseq.training.run_lock import LOCK, run_lock


def flip_a_bit(path) -> None:
    """In the middle of the largest thing in the file, a tensor."""
    content = bytearray(path.read_bytes())
    weights = read_training_checkpoint(path)["ema"]
    largest = max(weights.values(), key=lambda value: value.numel())
    content[content.index(largest.numpy().tobytes()) + 5] ^= 16
    path.write_bytes(content)


def test_a_damaged_last_checkpoint_leads_to_the_previous_one(tmp_path, caplog):
    tiny_fit(tmp_path / "run", max_steps=20)
    tiny_fit(tmp_path / "whole", max_steps=20)
    last = tmp_path / "run/checkpoints/last.ckpt"
    flip_a_bit(last)
    with caplog.at_level(logging.WARNING, "visionseq"):
        tiny_fit(tmp_path / "run", max_steps=20, ckpt_path="last")
    (record,) = caplog.records
    assert f"{last} is damaged" in record.message
    assert "resumes from" in record.message
    assert "previous.ckpt" in record.message
    for name in ("model/model.safetensors", "metrics.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_two_damaged_checkpoints_are_both_named(tmp_path):
    tiny_fit(tmp_path / "run", max_steps=20)
    for name in ("last.ckpt", "previous.ckpt"):
        flip_a_bit(tmp_path / "run/checkpoints" / name)
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged: .*; .*previous\.ckpt is damaged: "):
        tiny_fit(tmp_path / "run", max_steps=30, ckpt_path="last")
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged"):
        tiny_fit(tmp_path / "other", max_steps=30, ckpt_path=tmp_path / "run/checkpoints/last.ckpt")


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"ckpt_path": "last"}])
def test_a_run_that_was_killed_at_its_first_file_does_not_block_the_next(tmp_path, options):
    (tmp_path / "run").mkdir()
    for name in (".environment.txt.abcd1234.part", LOCK):
        (tmp_path / "run" / name).write_text("half")
    tiny_fit(tmp_path / "run", max_steps=6, **options)
    assert not list((tmp_path / "run").glob("*.part"))
    assert (tmp_path / "run/model/model.safetensors").is_file()


def test_half_written_files_of_a_killed_run_are_removed_everywhere(tmp_path):
    tiny_fit(tmp_path / "run", max_steps=6)
    for folder in ("", "checkpoints", "model", "samples"):
        (tmp_path / "run" / folder / ".x.abcd1234.part").write_text("half")
    tiny_fit(tmp_path / "run", max_steps=8, ckpt_path="last")
    assert not list((tmp_path / "run").rglob(".*.part"))


HOLDER = """
import os, sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
if os.fork() == 0:  # like a worker that outlives the run
    sys.stdin.read()
    os._exit(0)
print("holding", flush=True)
sys.stdin.read()
"""


def test_a_second_run_in_a_folder_is_refused_until_the_first_is_gone(tmp_path):
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run" / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout.readline() == b"holding\n"
        with pytest.raises(ConfigError, match=r"another run is writing to .*run; wait"), run_lock(tmp_path / "run", 0):
            pass
        assert os.listdir(tmp_path / "run") == [LOCK]
        first.kill()
    tiny_fit(tmp_path / "run", max_steps=6)  # at once, though nobody released the lock


def test_the_lock_is_held_during_a_training_and_not_after_it(tmp_path):
    class TryLock(Callback):
        refusals = 0

        def on_train_batch_end(self, *_):
            try:
                with run_lock(tmp_path / "run", 0):
                    pass
            except ConfigError:
                self.refusals += 1

    trial = TryLock()
    tiny_fit(tmp_path / "run", max_steps=6, callbacks=[trial])
    assert trial.refusals == 6
    with run_lock(tmp_path / "run", 0):
        pass


class FullDisk(Callback):
    """From an update on, no file of this process can grow beyond some bytes."""

    def __init__(self, step: int, limit: int):
        self.step, self.limit = step, limit
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.handler = signal.getsignal(signal.SIGXFSZ)

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, self.before[1]))

    def restore(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
        signal.signal(signal.SIGXFSZ, self.handler)


@pytest.mark.parametrize(
    ("limit", "file"), [(5000, r"checkpoints/last\.ckpt"), (10, r"")], ids=["a checkpoint", "anything"]
)
def test_a_full_disk_ends_a_run_with_one_error_and_keeps_the_checkpoint(tmp_path, limit, file):
    disk = FullDisk(16, limit)
    try:
        with pytest.raises(WriteError, match=rf"run/?{file}.* cannot be written: File too large"):
            tiny_fit(tmp_path / "run", max_steps=30, callbacks=[disk])
    finally:
        disk.restore()
    assert read_training_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 14
    tiny_fit(tmp_path / "run", max_steps=30, ckpt_path="last")
    tiny_fit(tmp_path / "whole", max_steps=30)
    for name in ("model/model.safetensors", "metrics.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match=r"file/run/\.lock cannot be written: Not a directory"):
        tiny_fit(tmp_path / "file" / "run", max_steps=6)


class DeadlySource(ImageSource):
    """The worker that begins the second pass over the data dies."""

    def fetch(self, keys: np.ndarray):
        if keys[0, 0] > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fetch(keys)


class DeadlyData(ImageData):
    def train_source(self):
        return DeadlySource(self.dataset, self.seed)


def test_a_worker_that_dies_is_one_error_and_the_run_goes_on_from_its_last_update(tmp_path):
    images = tiny_data().dataset
    data = DeadlyData(images, BATCH, loader=LoaderOptions(num_workers=1, prefetch=1))
    with pytest.raises(DataError, match="a process that reads it has ended"):
        fit(TinyTask(), data, max_steps=30, run_dir=tmp_path / "run", accelerator="cpu", progress=False)
    assert read_training_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 5


class ParticularTask(TinyTask):
    """Wants data with labels, and counts its steps."""

    steps = 0

    def check_data(self, data):
        raise ConfigError("the task has 10 classes, the data has none")

    def training_step(self, *arguments):
        self.steps += 1
        return super().training_step(*arguments)


def test_the_task_is_asked_about_the_data_before_an_earlier_run_is_replaced(tmp_path):
    tiny_fit(tmp_path / "run", max_steps=6)
    before = (tmp_path / "run/metrics.csv").read_bytes()
    task = ParticularTask()
    with pytest.raises(ConfigError, match="the task has 10 classes, the data has none"):
        tiny_fit(tmp_path / "run", task, overwrite=True)
    assert task.steps == 0
    assert (tmp_path / "run/metrics.csv").read_bytes() == before
