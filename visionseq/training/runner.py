"""`fit`: one training run from Python; the command line builds on the same parts.

Order matters among the callbacks: the loss is checked first, the average takes in the update, then the log and the
pictures are written, and the checkpoint of that update comes last.
"""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment
from torch import Tensor

from visionseq.data.module import DataModule
from visionseq.files import named_write_errors
from visionseq.saving.pretrained import PretrainedModel
from visionseq.training.check_finite import CheckFinite
from visionseq.training.checkpoint import Checkpoints
from visionseq.training.checkpoint_io import (
    AtomicCheckpointIO,
    find_checkpoint,
    last_checkpoint,
    read_training_checkpoint,
)
from visionseq.training.ema import EMA, RAMPUP
from visionseq.training.exact_means import ExactMeans
from visionseq.training.export import export_model
from visionseq.training.metrics_file import MetricsFile
from visionseq.training.pictures import Pictures
from visionseq.training.progress import TrainingProgress
from visionseq.training.run_folder import TENSORBOARD, check_run_folder, prepare_run_folder
from visionseq.training.run_lock import run_lock
from visionseq.training.seeding import StepSeed
from visionseq.training.sharding import is_sharded
from visionseq.training.trainer_parts import find_callback, model_of
from visionseq.training.whole_updates import WholeUpdates
from visionseq.zoo.loading import load_run

TRAINER_DEFAULTS: dict[str, Any] = {
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # the data module shards itself
    "num_sanity_val_steps": 0,
}

_CHATTER = (
    ".*isinstance\\(treespec, LeafSpec\\).*",
    ".*smaller than the logging interval.*",
    ".*does not have many workers.*",
    ".*Total length of `list` across ranks is zero.*",  # a run without validation data
    ".*Couldn't infer the batch indices.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*in eval mode at the start of training.*",  # frozen parts of a task are meant to be
)


def fit(
    task: LightningModule,
    data: DataModule,
    *,
    max_steps: int,
    run_dir: str | os.PathLike | None = None,
    ckpt_path: str | os.PathLike | None = None,
    overwrite: bool = False,
    ema: float | None = 0.9999,
    ema_rampup: float | None = RAMPUP,
    check_finite: bool = True,
    seed: int = 0,
    checkpoint_every: int = 1000,
    log_every: int = 50,
    picture_every: int = 1000,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    plugins: Sequence[Any] = (),
    **trainer_options: Any,
) -> PretrainedModel:
    """Train `task.model` and return it in eval mode with the averaged weights.

    Args:
        task: a LightningModule of a room, with a `PretrainedModel` under `.model`.
        data: its data module.
        max_steps: optimiser updates.
        run_dir: folder for checkpoints, metrics, pictures and the model; None keeps nothing on disk.
        ckpt_path: `last` of `run_dir`, or a checkpoint to resume from.
        overwrite: replace an earlier run in `run_dir`.
        ema: decay of the averaged weights; None trains without.
        ema_rampup: longest half-life of the average as a share of the updates so far; None: the decay is constant.
        check_finite: stop where the loss or the weights are not finite.
        seed: keys dropout and the like.
        checkpoint_every, log_every, picture_every: updates between two of them, with a `run_dir`.
        progress: show the progress on standard output.
        callbacks: further ones; they are called before those of this package.
        plugins: of Lightning, such as `LossScale`.
        trainer_options: further arguments of lightning.Trainer, such as `precision`.

    Raises `ConfigError` for a `run_dir` that holds another run or data that do not match the task, `CheckpointError`
    for a `ckpt_path` that cannot be resumed from, `TrainingError` for a loss that is not finite; KeyboardInterrupt
    after Ctrl-C, with a checkpoint written.
    """
    check_data(task, data)
    folder = None if run_dir is None else Path(run_dir)
    resume = ckpt_path is not None
    if folder is not None:
        check_run_folder(folder, resume, overwrite)
    with quiet(), run_lock(folder) if folder is not None else nullcontext():
        checkpoint = find_checkpoint(ckpt_path, folder or Path()) if ckpt_path is not None else None
        if folder is not None:
            prepare_run_folder(folder, resume, overwrite)

        # Callbacks: those of every training, those of a run with a folder, the display.
        standard: list[Callback] = [WholeUpdates(), ExactMeans(), StepSeed(seed)]
        standard += [CheckFinite(log_every)] if check_finite else []
        standard += [EMA(ema, rampup=ema_rampup)] if ema is not None else []
        if folder is not None:
            standard += folder_callbacks(log_every, picture_every, checkpoint_every, check_finite)
        standard += [TrainingProgress()] if progress else []

        defaults = {
            **TRAINER_DEFAULTS,
            "devices": 1,
            "enable_checkpointing": folder is not None,
            "enable_progress_bar": progress,
            "log_every_n_steps": log_every,
            "logger": run_loggers(folder, checkpoint) if folder is not None else False,
            "default_root_dir": folder,
        }
        trainer = Trainer(
            max_steps=max_steps,
            callbacks=[*callbacks, *standard],
            plugins=run_plugins(plugins),
            **{**defaults, **trainer_options},
        )
        return train(trainer, task, data, checkpoint, folder)


def train(
    trainer: Trainer, task: LightningModule, data: DataModule, checkpoint: Path | None, run_dir: Path | None
) -> PretrainedModel:
    """Run `trainer.fit` with the callbacks of this package, leave the average in the model and export it."""
    task_model = model_of(task)
    task_model.preprocessing = dict(data.preprocessing)
    with named_write_errors(run_dir or Path()):
        interruptible(trainer.fit)(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)

    # A model that FSDP has spread over the processes is whole only in the checkpoint.
    raw_weights: Mapping[str, Tensor] | None
    if is_sharded(trainer) and run_dir is not None:
        last = last_checkpoint(run_dir)
        assert last is not None  # the end of the training writes one at the latest
        model, raw_weights = load_run(last), load_run(last, "raw").state_dict()
    else:
        model, raw_weights = task_model, _show_average(trainer, task_model)
    if run_dir is not None and trainer.is_global_zero:
        export_model(trainer, task, model, run_dir, raw_weights)
    return model.eval()


def check_data(task: LightningModule, data: DataModule) -> None:
    """Ask the task whether the data match its model, before an earlier run is replaced or a step is made.

    The tasks of this package have a method `check_data(data)` that raises `ConfigError`; a task may do without.
    """
    check = getattr(task, "check_data", None)
    if check is not None:
        check(data)


def _show_average(trainer: Trainer, model: PretrainedModel) -> dict[str, Tensor] | None:
    """Leave the average in the model; returns the raw state, or None where the run has no average."""
    ema = find_callback(trainer, EMA)
    if ema is None or is_sharded(trainer):
        return None
    raw = ema.finish(trainer)
    return {**model.state_dict(), **raw} if raw else None


def folder_callbacks(log_every: int, picture_every: int, checkpoint_every: int, check_finite: bool) -> list[Callback]:
    """The callbacks that write to the folder of a run, in the order in which they must be called."""
    return [MetricsFile(log_every), Pictures(picture_every), Checkpoints(checkpoint_every, check_finite)]


def run_loggers(run_dir: Path, checkpoint: Path | None) -> list[Logger]:
    """TensorBoard below the run folder; a resumed run hides the entries that were logged after its checkpoint."""
    purge_step = None if checkpoint is None else read_training_checkpoint(checkpoint)["global_step"] + 1
    return [TensorBoardLogger(run_dir, name="", version=TENSORBOARD, purge_step=purge_step)]


def run_plugins(plugins: Sequence[Any] = ()) -> list[Any]:
    """Plugins of a run: the atomic checkpoint writer, unless there is another one."""
    plugins = list(plugins)
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(AtomicCheckpointIO())
    if SLURMEnvironment.detect() and not any(isinstance(plugin, SLURMEnvironment) for plugin in plugins):
        # Lightning would save within a signal handler, in the middle of an update; `Checkpoints` saves after it.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return plugins


@contextmanager
def quiet() -> Iterator[None]:
    """Without what Lightning says about itself; its warnings about the run stay.

    TensorBoard's writing thread shows no traceback either: its error is raised again where something is logged.
    """
    show_thread_error = threading.excepthook

    def show_others(arguments: threading.ExceptHookArgs) -> None:
        if not type(arguments.thread).__module__.startswith("tensorboard."):
            show_thread_error(arguments)

    logs = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for text in _CHATTER:
            warnings.filterwarnings("ignore", text)
        threading.excepthook = show_others
        try:
            yield
        finally:
            threading.excepthook = show_thread_error
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)


def interruptible(call: Callable[..., Any]) -> Callable[..., Any]:
    """`trainer.fit` or another verb, with Ctrl-C as KeyboardInterrupt: Lightning makes it an exit with code 1."""

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        handler = signal.getsignal(signal.SIGINT)
        try:
            return call(*arguments, **keywords)
        except SystemExit as exit_:
            if not isinstance(exit_.__context__, KeyboardInterrupt):
                raise
            signal.signal(signal.SIGINT, handler)  # which Lightning ignores from then on
            raise KeyboardInterrupt from None

    return wrapped
