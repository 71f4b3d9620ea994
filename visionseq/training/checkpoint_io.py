"""Checkpoint files: `last.ckpt` and the one before it, `previous.ckpt`, each complete at every moment.

A checkpoint is written to a temporary file, synced and renamed, and only then is the last one renamed to the previous
one: a run killed at any moment leaves whole files, and a `last.ckpt` from its first checkpoint on.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from visionseq.errors import CheckpointError
from visionseq.files import atomic_path, sync_file
from visionseq.saving.weights import read_checkpoint

CHECKPOINTS, LAST, PREVIOUS = "checkpoints", "last.ckpt", "previous.ckpt"
_HINT = "resume from a run's checkpoints/last.ckpt, or start a new run from these weights with --model.init_args.init"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's reader and writer of checkpoints: complete or absent on disk, never unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        path = Path(path)
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)
            if path.name == LAST and path.is_file():
                sync_file(temporary)
                keep_previous(path)

    def load_checkpoint(
        self, path: str | os.PathLike, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_training_checkpoint(path)


def keep_previous(last: Path) -> None:
    """Give the last checkpoint a second name, `previous.ckpt`; `last.ckpt` stays."""
    previous, temporary = last.with_name(PREVIOUS), last.with_name(f".{PREVIOUS}.part")
    temporary.unlink(missing_ok=True)
    try:
        os.link(last, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(last, temporary)
    os.replace(temporary, previous)
    temporary.unlink(missing_ok=True)  # renaming a second name of one file to a third leaves it


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed run had half written."""
    for path in folder.glob(".*.part"):
        path.unlink(missing_ok=True)


def find_checkpoint(ckpt_path: str | os.PathLike, run_dir: Path) -> Path | None:
    """The file that `--ckpt_path` means: `last` of the run (None before its first checkpoint), a run folder or a file.

    Raises `CheckpointError` where there is nothing of that name, or weights alone.
    """
    if str(ckpt_path) == "last":
        return last_checkpoint(run_dir)
    path = Path(ckpt_path)
    if path.is_dir() and (found := last_checkpoint(path)):
        return found
    if path.suffix == ".safetensors" or (path / "model.safetensors").is_file():
        raise CheckpointError(f"{path} holds weights only, no state of optimiser and data: {_HINT}")
    if not path.is_file():
        raise CheckpointError(f"ckpt_path: found no checkpoint {path}; expected `last`, a .ckpt file or a run folder")
    return path


def last_checkpoint(run_dir: str | os.PathLike) -> Path | None:
    """The newest checkpoint of a run folder, or None."""
    folder = Path(run_dir) / CHECKPOINTS
    return next((folder / name for name in (LAST, PREVIOUS) if (folder / name).is_file()), None)


def read_training_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """A checkpoint that training can be resumed from; raises `CheckpointError` for weights alone or damaged files."""
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint, dict) or not {"loops", "optimizer_states", "state_dict"} <= checkpoint.keys():
        raise CheckpointError(f"{path} holds weights only, no state of optimiser and data: {_HINT}")
    return checkpoint
