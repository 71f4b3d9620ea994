"""A training whose loss or weights are no longer finite stops with the update and the checkpoint to go on from."""

from pathlib import Path

import pytest
import torch
from tiny_task import TinyTask, tiny_fit

from visionseq.cli import main
from visionseq.errors import CheckpointError, TrainingError
from visionseq.training import LossScale
from visionseq.training.checkpoint_io import read_training_checkpoint
from visionseq.training.metrics_file import read_metrics

NAN, INFINITY = float("nan"), float("inf")


class BrokenLoss(TinyTask):
    """The loss is `value` from update `start` on, up to update `end`."""

    def __init__(self, start: int, value: float = NAN, end: int = 10_000):
        super().__init__()
        self.start, self.end, self.value = start, end, value

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        is_broken = self.start <= self.trainer.global_step + 1 <= self.end
        return loss * self.value if is_broken else loss


class BrokenGradient(TinyTask):
    """Update number 17 puts NaN into the weights, though its loss is finite."""

    def on_after_backward(self):
        if self.trainer.global_step == 16:
            self.model.model.output.weight.grad[0, 0] = NAN


def is_finite(checkpoint: Path) -> bool:
    content = read_training_checkpoint(checkpoint)
    return all(value.isfinite().all() for part in ("state_dict", "ema") for value in content[part].values())


@pytest.mark.parametrize("value", [NAN, INFINITY])
def test_a_loss_that_is_not_finite_stops_with_update_and_checkpoint(tmp_path, value):
    last = tmp_path / "run/checkpoints/last.ckpt"
    with pytest.raises(
        TrainingError, match=rf"loss of update 17 is not finite; the last checkpoint, of update 14, is {last}"
    ):
        tiny_fit(tmp_path / "run", BrokenLoss(17, value), max_steps=30)
    assert is_finite(last)
    assert read_training_checkpoint(last)["global_step"] == 14
    assert not (tmp_path / "run/model").exists()
    tiny_fit(tmp_path / "run", max_steps=30, ckpt_path="last")
    assert read_metrics(tmp_path / "run/metrics.csv")[-1]["step"] == "30"


def test_without_a_run_folder_the_error_says_that_there_is_no_checkpoint():
    with pytest.raises(
        TrainingError, match="loss of update 3 is not finite; no checkpoint exists; a lower learning rate"
    ):
        tiny_fit(None, BrokenLoss(3), max_steps=6)


@pytest.mark.parametrize("every", [7, 17, 1000])  # checkpoints after the broken update, just at it, only at the end
def test_weights_that_are_not_finite_are_not_written(tmp_path, every):
    with pytest.raises(
        TrainingError, match=r"(weights are not finite after update 17|loss of update 18 is not finite)"
    ):
        tiny_fit(tmp_path / "run", BrokenGradient(), max_steps=30, checkpoint_every=every)
    last = tmp_path / "run/checkpoints/last.ckpt"
    assert not last.exists() or is_finite(last)


def test_going_on_regardless_is_a_choice_and_its_model_is_not_exported(tmp_path):
    with pytest.raises(CheckpointError, match="EDMVelocity holds weights that are not finite"):
        tiny_fit(tmp_path / "run", BrokenLoss(17), max_steps=21, check_finite=False)
    assert read_training_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 21
    with pytest.raises(CheckpointError, match=r"last\.ckpt holds weights that are not finite: model\."):
        tiny_fit(tmp_path / "run", max_steps=30, ckpt_path="last")


def test_a_loss_scale_may_meet_overflows_but_not_forever(tmp_path):
    def scale() -> list:
        return [LossScale(64, window=1000)]

    tiny_fit(tmp_path / "few", BrokenLoss(5, INFINITY, end=8), max_steps=12, plugins=scale())
    assert torch.isfinite(torch.tensor(float(read_metrics(tmp_path / "few/metrics.csv")[-1]["train/loss"])))
    with pytest.raises(TrainingError, match="the loss of update 24 is not finite"):
        tiny_fit(tmp_path / "many", BrokenLoss(5, INFINITY), max_steps=40, plugins=scale())


def test_the_command_ends_with_code_1_and_has_the_switch(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text(
        """
model:
  class_path: visionseq.rectified_flow.TeacherTask
  init_args:
    network: {type: ResidualMLP, img_resolution: 8, in_channels: 1, hidden: 8, num_blocks: 1}
    optimizer: {lr: 1.0e+30}
data:
  class_path: visionseq.data.ImageData
  init_args: {dataset: {class_path: visionseq.data.Digits}, batch_size: 16}
trainer: {max_steps: 6, accelerator: cpu}
picture_every: 1000000
"""
    )
    assert main(["fit", "--config", "broken.yaml"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("TrainingError: the loss of update ")
    assert message.count("\n") == 1
    assert main(["fit", "--config", "broken.yaml", "--check_finite", "false", "--overwrite"]) == 1
    assert "holds weights that are not finite" in capsys.readouterr().err
    assert Path("runs/broken/checkpoints/last.ckpt").is_file()
