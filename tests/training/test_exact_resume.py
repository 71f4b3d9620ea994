"""Runs that are killed, stopped or extended end with the same bits as one that was left alone."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kill_runs import WRITING
from tiny_task import Interrupt, TinyTask, tiny_fit

from visionseq.optim.factory import OptimizerConfig
from visionseq.training import LossScale

SCRIPT = Path(__file__).with_name("kill_runs.py")


def assert_same(a, b, where: str = "") -> None:
    """Equal to the bit, in any nesting."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{where}/{index}")
    else:
        assert a == b, where


def state(run: Path) -> dict:
    """What a checkpoint holds, without the seconds that it took and some of Lightning's bookkeeping.

    Of Lightning's counters those of batches, updates and epochs steer a run; others depend on where it was resumed.
    """
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    del checkpoint["callbacks"]["Checkpoints"]
    loop = checkpoint.pop("loops")["fit_loop"]
    checkpoint["batches"] = loop["epoch_loop.batch_progress"]["total"]["processed"]
    checkpoint["updates"] = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    checkpoint["epochs"] = loop["epoch_progress"]["current"]["processed"]
    return checkpoint


def assert_same_run(run: Path, other: Path) -> None:
    """Weights, average, optimiser, schedule, data position, counters, logged values and exported model."""
    assert_same(state(run), state(other))
    assert (run / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    assert (run / "model/model.safetensors").read_bytes() == (other / "model/model.safetensors").read_bytes()


def kill_and_compare(folder: Path, runs: int, seed: int) -> None:
    subprocess.run([sys.executable, str(SCRIPT), str(folder), str(runs), str(seed)], check=True)
    kills = json.loads((folder / "kills.json").read_text())
    assert all(any(kill["killed"] for kill in kills if kill["run"] == number) for number in range(runs))
    assert any(kill["killed"] for kill in kills if kill["kind"] == WRITING)
    for number in range(runs):
        assert_same_run(folder / f"killed_{number}", folder / "uninterrupted")


def test_three_runs_killed_by_sigkill_end_with_the_same_bits(tmp_path):
    kill_and_compare(tmp_path, runs=3, seed=1)


@pytest.mark.slow
def test_twenty_runs_killed_by_sigkill_end_with_the_same_bits(tmp_path):
    kill_and_compare(tmp_path, runs=20, seed=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Thirty updates that nobody disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    tiny_fit(run, max_steps=30)
    return run


@pytest.mark.parametrize(
    ("number", "ending"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)],
    ids=["ctrl-c", "sigterm", "sighup"],
)
def test_a_signal_lets_the_update_finish_and_leaves_its_checkpoint(tmp_path, whole, number, ending):
    before = signal.getsignal(number)
    with pytest.raises(ending) as stopped:
        tiny_fit(tmp_path / "run", max_steps=30, callbacks=[Interrupt(17, number)])
    assert ending is KeyboardInterrupt or stopped.value.code == 128 + number
    assert signal.getsignal(number) == before
    assert state(tmp_path / "run")["global_step"] == 18
    tiny_fit(tmp_path / "run", max_steps=30, ckpt_path="last")
    assert_same_run(tmp_path / "run", whole)


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    """nohup and shells that start a job in the background rely on it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        tiny_fit(tmp_path / "run", max_steps=6, callbacks=[Interrupt(2, signal.SIGHUP)])
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert state(tmp_path / "run")["global_step"] == 6


def test_a_stop_waits_for_the_end_of_an_accumulation(tmp_path):
    options = {"max_steps": 10, "accumulate_grad_batches": 3, "limit_train_batches": 3}
    with pytest.raises(KeyboardInterrupt):
        tiny_fit(tmp_path / "run", callbacks=[Interrupt(4)], **options)
    assert state(tmp_path / "run")["batches"] == 15
    tiny_fit(tmp_path / "run", ckpt_path="last", **options)
    tiny_fit(tmp_path / "whole", **options)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_stop_that_coincides_with_a_validation_does_not_lose_it(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        tiny_fit(tmp_path / "run", max_steps=30, callbacks=[Interrupt(19)])  # update 20 is followed by a validation
    tiny_fit(tmp_path / "run", max_steps=30, ckpt_path="last")
    assert_same_run(tmp_path / "run", whole)


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    twice = [Interrupt(17), Interrupt(17, hook="on_after_backward")]
    with pytest.raises(KeyboardInterrupt):
        tiny_fit(tmp_path / "run", max_steps=30, callbacks=twice)
    assert state(tmp_path / "run")["global_step"] == 14  # the last regular one


class FaultyTask(TinyTask):
    """Fails at a hook of one step."""

    def __init__(self, hook: str, step: int):
        super().__init__()
        self.step, original = step, getattr(self, hook)

        def fail(*arguments):
            if self.trainer.global_step == self.step:
                raise RuntimeError("a fault")
            return original(*arguments)

        setattr(self, hook, fail)


@pytest.mark.parametrize(
    ("hook", "step", "saved"),
    [("on_before_batch_transfer", 17, 17), ("training_step", 17, 14), ("validation_step", 20, 14)],
)
def test_after_an_error_the_run_continues_to_the_bit(tmp_path, whole, hook, step, saved):
    with pytest.raises(RuntimeError, match="a fault"):
        tiny_fit(tmp_path / "run", FaultyTask(hook, step), max_steps=30)
    assert state(tmp_path / "run")["global_step"] == saved
    tiny_fit(tmp_path / "run", max_steps=30, ckpt_path="last")
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize("first", [12, 23])  # at the end of an epoch, between checkpoints
def test_a_run_extended_in_steps_is_the_long_run(tmp_path, first):
    def task() -> TinyTask:
        return TinyTask(OptimizerConfig(lr=1e-2, warmup_steps=5))

    tiny_fit(tmp_path / "run", task(), max_steps=first, log_every=1)
    tiny_fit(tmp_path / "run", task(), max_steps=30, log_every=1, ckpt_path="last")
    tiny_fit(tmp_path / "whole", task(), max_steps=30, log_every=1)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("stop", [4, 8])  # an epoch has four batches
def test_validations_by_epochs_are_neither_lost_nor_repeated(tmp_path, stop):
    options = {"max_steps": 13, "val_check_interval": None, "check_val_every_n_epoch": 2}
    with pytest.raises(KeyboardInterrupt):
        tiny_fit(tmp_path / "run", callbacks=[Interrupt(stop - 1)], **options)
    tiny_fit(tmp_path / "run", ckpt_path="last", **options)
    tiny_fit(tmp_path / "whole", **options)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_the_loss_scale_survives_a_stop(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        tiny_fit(tmp_path / "run", max_steps=30, plugins=[LossScale(64, window=5)], callbacks=[Interrupt(17)])
    tiny_fit(tmp_path / "run", max_steps=30, plugins=[LossScale(64, window=5)], ckpt_path="last")
    tiny_fit(tmp_path / "whole", max_steps=30, plugins=[LossScale(64, window=5)])
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_run_that_is_done_resumes_to_itself(tmp_path):
    tiny_fit(tmp_path / "run", max_steps=20)
    before = (tmp_path / "run/metrics.csv").read_bytes()
    exported = (tmp_path / "run/model/model.safetensors").read_bytes()
    tiny_fit(tmp_path / "run", max_steps=20, ckpt_path="last")
    assert (tmp_path / "run/metrics.csv").read_bytes() == before
    assert (tmp_path / "run/model/model.safetensors").read_bytes() == exported
