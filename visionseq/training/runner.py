"""`fit`: one training run, with or without a folder, the same from Python and from the command line."""

import os
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from visionseq.nn.pretrained import PretrainedModel
from visionseq.training.checkpoint import AtomicCheckpointIO, Checkpoints
from visionseq.training.ema import EMA
from visionseq.training.metrics_file import MetricsFile
from visionseq.training.pictures import Pictures
from visionseq.training.progress import training_progress
from visionseq.training.run_folder import CHECKPOINTS, METRICS, MODEL, SAMPLES, commit, hardware, model_card
from visionseq.training.seeding import StepSeed


def fit(
    task: LightningModule,
    data: LightningDataModule,
    *,
    max_steps: int,
    run_dir: str | os.PathLike | None = None,
    ckpt_path: str | os.PathLike | None = None,
    ema: float | None = 0.9999,
    seed: int = 0,
    **trainer_options: Any,
) -> PretrainedModel:
    """Train `task.model` and return it in eval mode with the averaged weights.

    Args:
        task: a LightningModule of a room, with `.model`.
        data: its data module.
        max_steps: optimiser updates.
        run_dir: folder for checkpoints, metrics, pictures and the model; None keeps nothing on disk.
        ckpt_path: checkpoint to resume from.
        ema: decay of the averaged weights; None trains without.
        seed: keys dropout and the like.
        trainer_options: further arguments of lightning.Trainer, such as `precision`.
    """
    callbacks: list[Callback] = [StepSeed(seed)]
    if ema is not None:
        callbacks.append(EMA(ema))
    if run_dir is not None:
        callbacks += run_callbacks(Path(run_dir))
    trainer = Trainer(
        max_steps=max_steps,
        max_epochs=-1,
        callbacks=[*callbacks, training_progress()],
        logger=TensorBoardLogger(run_dir, name="", version="tensorboard") if run_dir is not None else False,
        plugins=[AtomicCheckpointIO()],
        **{**TRAINER_DEFAULTS, **trainer_options},
    )
    remember_preprocessing(task, data)
    started = time.monotonic()
    trainer.fit(task, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    model = averaged_model(trainer, task)
    if run_dir is not None and trainer.is_global_zero:
        export(trainer, task, Path(run_dir), time.monotonic() - started)
    return model


TRAINER_DEFAULTS: dict[str, Any] = {
    "accelerator": "auto",
    "devices": 1,
    "enable_checkpointing": False,  # the callback of `checkpoint.py` writes them
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # the data module shards itself
    "num_sanity_val_steps": 0,
    "check_val_every_n_epoch": None,  # validation goes by updates: an epoch means nothing to an endless stream
}


def run_callbacks(run_dir: Path, checkpoint_every: int = 1000, picture_every: int = 1000) -> list[Callback]:
    """What writes into a run folder, in the order in which it must happen: metrics before their checkpoint."""
    return [
        MetricsFile(run_dir / METRICS),
        Pictures(run_dir / SAMPLES, picture_every),
        Checkpoints(run_dir / CHECKPOINTS, checkpoint_every),
    ]


def remember_preprocessing(task: LightningModule, data: LightningDataModule) -> None:
    """Let the model carry the preprocessing of the data that it learns from."""
    task.model.preprocessing = dict(data.preprocessing)


def averaged_model(trainer: Trainer, task: LightningModule) -> PretrainedModel:
    """`task.model` in eval mode, its weights replaced by their average where there is one."""
    for callback in trainer.callbacks:
        if isinstance(callback, EMA):
            callback.averaged().__enter__()
    return task.model.eval()


def export(trainer: Trainer, task: LightningModule, run_dir: Path, seconds: float) -> None:
    """Write the model folder of a finished run."""
    batch = getattr(trainer.datamodule, "batch_size", None)
    facts = {
        "data": getattr(trainer.datamodule, "name", type(trainer.datamodule).__name__),
        "updates": f"{trainer.global_step}, batch {batch}",
        "recipe": "config.yaml of the run",
        "seed": getattr(task, "seed", 0),
        "commit": commit(),
        "hardware": hardware(),
        "wall time": f"{seconds:.0f} s (of the last part of the run)",
        "software": f"torch {torch.__version__}, lightning {lightning.__version__}",
    }
    numbers = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    task.model.save_pretrained(run_dir / MODEL, card=model_card(task.model, run_dir.name, facts, numbers))
