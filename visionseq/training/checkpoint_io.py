"""Checkpoint files: `last.ckpt` and the one before it, `previous.ckpt`, each complete at every moment.

A checkpoint is written to a temporary file and synced; then the last one gets its second name, and the new one replaces
it. A run that is killed at any moment leaves whole files, and a `last.ckpt` from its first checkpoint on. Checksums are
compared before a run resumes: where `last.ckpt` is damaged, the run goes on from `previous.ckpt`.
"""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from visionseq.errors import CheckpointError
from visionseq.files import atomic_path, sync_file
from visionseq.saving.weights import check_archive, read_checkpoint

CHECKPOINTS, LAST, PREVIOUS = "checkpoints", "last.ckpt", "previous.ckpt"
_log = logging.getLogger("visionseq.training")
_HINT = "resume from a run's checkpoints/last.ckpt, or start a new run from these weights with --model.init_args.init"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's reader and writer of checkpoints: complete or absent on disk, never unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        path = Path(path)
        with atomic_path(path) as temporary:
            with open(temporary, "wb") as file:  # with a path, torch would hide the system's error
                torch.save(checkpoint, file)
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


def find_checkpoint(ckpt_path: str | os.PathLike, run_dir: Path) -> Path | None:
    """The file that `--ckpt_path` means: `last` of the run (None before its first checkpoint), a run folder or a file.

    Raises `CheckpointError` for a missing file, for weights alone, and where all checkpoints of a run are damaged.
    """
    if str(ckpt_path) == "last":
        return intact_checkpoint(run_dir)
    path = Path(ckpt_path)
    if path.is_dir() and (checkpoint := intact_checkpoint(path)):
        return checkpoint
    if path.suffix == ".safetensors" or (path / "model.safetensors").is_file():
        raise CheckpointError(f"{path} holds weights only, no state of optimiser and data: {_HINT}")
    if not path.is_file():
        raise CheckpointError(f"ckpt_path: found no checkpoint {path}; expected `last`, a .ckpt file or a run folder")
    return path


def last_checkpoint(run_dir: str | os.PathLike) -> Path | None:
    """The newest checkpoint of a run folder, or None."""
    return next(iter(_checkpoints(run_dir)), None)


def intact_checkpoint(run_dir: str | os.PathLike) -> Path | None:
    """The newest checkpoint of a run folder whose checksums match, or None where it has none at all.

    Logs a warning where that is the previous one; raises `CheckpointError` where all are damaged.
    """
    damages = []
    for path in _checkpoints(run_dir):
        try:
            check_archive(path)
        except CheckpointError as error:
            damages.append(str(error))
            continue
        if damages:
            _log.warning("%s; the run resumes from %s, the checkpoint before it", damages[0], path)
        return path
    if damages:
        raise CheckpointError("; ".join(damages))
    return None


def read_training_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """A checkpoint that training can be resumed from; raises `CheckpointError` for weights alone or damaged files."""
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint, dict) or not {"loops", "optimizer_states", "state_dict"} <= checkpoint.keys():
        raise CheckpointError(f"{path} holds weights only, no state of optimiser and data: {_HINT}")
    return checkpoint


def _checkpoints(run_dir: str | os.PathLike) -> list[Path]:
    """The existing checkpoints of a run folder, the newest first."""
    paths = [Path(run_dir) / CHECKPOINTS / name for name in (LAST, PREVIOUS)]
    return [path for path in paths if path.is_file()]
