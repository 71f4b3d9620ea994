"""The folder of a run: its configuration, the packages it ran with, and its results.

config.yaml  environment.txt  commit.txt  checkpoints/  metrics.csv  samples/  tensorboard/  predictions/  model/
"""

import os
import platform
import shutil
import subprocess
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from visionseq import __version__
from visionseq.errors import ConfigError
from visionseq.files import atomic_write, is_leftover, remove_leftovers
from visionseq.training.checkpoint_io import CHECKPOINTS
from visionseq.training.metrics_file import METRICS
from visionseq.training.pictures import SAMPLES
from visionseq.training.run_lock import LOCK

CONFIG, ENVIRONMENT, COMMIT = "config.yaml", "environment.txt", "commit.txt"
MODEL, TENSORBOARD, PREDICTIONS = "model", "tensorboard", "predictions"
_CONTENTS = (CONFIG, ENVIRONMENT, COMMIT, CHECKPOINTS, METRICS, SAMPLES, TENSORBOARD, PREDICTIONS, MODEL)
# Values that may differ between the parts of a run: they do not change the result of an update.
_FREE = {
    "config",
    "run_dir",
    "overwrite",
    "ckpt_path",
    "resume_changed",
    "check_finite",
    "checkpoint_every",
    "log_every",
    "picture_every",
}
_FREE |= {f"trainer.{name}" for name in ("max_steps", "max_epochs", "max_time", "accelerator", "strategy", "devices")}
_FREE |= {f"trainer.{name}" for name in ("num_nodes", "logger", "profiler", "enable_progress_bar", "callbacks")}


@rank_zero_only  # the other processes may find the folder that this one creates
def check_run_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    """Raise `ConfigError` where a new run would meet an earlier one, or a folder that is no run's.

    The lock and half-written files of a killed process do not count.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"run_dir: {folder} is a file, expected a folder")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    names = {name for name in names if name != LOCK and not is_leftover(name)}
    if names and not names & {*_CONTENTS}:
        raise ConfigError(f"run_dir: {folder} holds {', '.join(sorted(names)[:3])}, expected a new or a run's folder")
    if names and not resume and not overwrite:
        raise ConfigError(
            f"run_dir: {folder} holds an earlier run; resume it with --ckpt_path last, replace it with --overwrite, "
            "or choose another --run_dir"
        )


@rank_zero_only
def prepare_run_folder(folder: Path, resume: bool, overwrite: bool, config: str | None = None) -> None:
    """Create the folder, remove an earlier run that is to be replaced, and record config, packages and commit."""
    check_run_folder(folder, resume, overwrite)
    for name in ("", CHECKPOINTS, MODEL, SAMPLES, PREDICTIONS):
        remove_leftovers(folder / name)
    if overwrite and not resume:
        for path in (folder / name for name in _CONTENTS):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    texts = {ENVIRONMENT: environment(), COMMIT: commit(), CONFIG: config}
    for name, text in texts.items():
        if text is not None:
            with atomic_write(folder / name, "w") as file:
                file.write(text.rstrip() + "\n")


@rank_zero_only
def clear_predictions(folder: Path, overwrite: bool) -> None:
    """Remove earlier predictions, of which some would stay among the new ones; raises `ConfigError` unless asked to."""
    predictions = folder / PREDICTIONS
    if not predictions.is_dir() or all(is_leftover(path) for path in predictions.iterdir()):
        return
    if not overwrite:
        raise ConfigError(
            f"{predictions} holds earlier predictions; replace them with --overwrite, or choose another --run_dir"
        )
    shutil.rmtree(predictions)


@cache
def environment() -> str:
    """Python and the installed packages, one per line."""
    packages = [distribution.metadata for distribution in distributions()]
    names = {f"{package['Name']}=={package['Version']}" for package in packages if package["Name"]}
    return "\n".join([f"python=={platform.python_version()}", *sorted(names, key=str.lower)])


def check_drift(earlier: dict[str, Any], now: dict[str, Any], source: str | os.PathLike) -> None:
    """Raise `ConfigError` where a resumed run would compute something else than before."""
    before, after = dict(_flat(earlier)), dict(_flat(now))
    changed = [
        f"  {name}: {before.get(name)!r} -> {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and not _is_free(name)
    ]
    if changed:
        raise ConfigError(
            f"the configuration is not the one that the run began with ({source}):\n"
            + "\n".join(changed)
            + "\nresume with the old values, accept the new ones with --resume_changed, or choose another --run_dir"
        )


def commit() -> str:
    """The commit of the code that runs, marked where files were changed; the version outside a checkout."""
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists() or shutil.which("git") is None:
        return f"visionseq {__version__}"
    revision = subprocess.run(
        ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"], capture_output=True, text=True
    )
    return revision.stdout.strip() or f"visionseq {__version__}"


def _flat(value: Any, prefix: str = ""):
    """(dotted name, value) of every leaf; an empty table or list is a leaf."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not value or not items:
        yield prefix.removesuffix("."), value
    for key, item in items:
        yield from _flat(item, f"{prefix}{key}.")


def _is_free(name: str) -> bool:
    return any(name == free or name.startswith(f"{free}.") for free in _FREE)
