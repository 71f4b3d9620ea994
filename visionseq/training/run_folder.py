"""The folder of a run: what was asked for, with what, and what came of it.

    config.yaml  environment.txt  commit.txt  checkpoints/  metrics.csv  samples/  tensorboard/  model/
"""

import os
import platform
import subprocess
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

from visionseq import __version__
from visionseq.errors import ConfigError
from visionseq.files import atomic_write
from visionseq.nn.pretrained import PretrainedModel

CHECKPOINTS, METRICS, SAMPLES, MODEL = "checkpoints", "metrics.csv", "samples", "model"
CONFIG, ENVIRONMENT, COMMIT = "config.yaml", "environment.txt", "commit.txt"


def claim_run_folder(folder: str | os.PathLike, resume: bool, overwrite: bool) -> Path:
    """Create the folder of a new run, or accept an existing one on purpose; raises `ConfigError` otherwise.

    An overwritten run is moved aside to `<folder>.old-<time>`, not deleted.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"run_dir: {folder} is a file, expected a folder")
    occupied = folder.is_dir() and any(folder.iterdir())
    if occupied and overwrite:
        folder.rename(folder.with_name(f"{folder.name}.old-{time.strftime('%Y%m%d-%H%M%S')}"))
    elif occupied and not resume:
        raise ConfigError(
            f"run_dir: {folder} holds an earlier run; resume it with --ckpt_path last, replace it with --overwrite "
            "true, or choose another --run_dir"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def record_environment(folder: Path) -> None:
    """Write the installed packages and the commit that the run began with."""
    names = {f"{d.metadata['Name']}=={d.version}" for d in distributions() if d.metadata["Name"]}
    with atomic_write(folder / ENVIRONMENT, "w") as file:
        file.write("\n".join([f"python=={platform.python_version()}", *sorted(names, key=str.lower)]) + "\n")
    with atomic_write(folder / COMMIT, "w") as file:
        file.write(f"{commit()}\n")


def commit() -> str:
    """The commit of the code that runs, marked where files were changed; `unknown` outside a checkout."""
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return f"visionseq {__version__}, not a checkout"
    revision = subprocess.run(
        ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"], capture_output=True, text=True
    )
    return revision.stdout.strip() or "unknown"


def hardware() -> str:
    """One line about the machine."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"


def model_card(model: PretrainedModel, name: str, facts: dict[str, Any], numbers: dict[str, float]) -> str:
    """README.md of an exported model."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    lines = [
        "---",
        "library_name: visionseq",
        f"tags: [visionseq, {model.room}]",
        "---",
        "",
        f"# {name}",
        "",
        f"`{type(model).__name__}` of the room `{model.room}`, {parameters:,} parameters. "
        "The weights are the exponential moving average of a training run.",
        "",
        "```python",
        "import visionseq",
        "",
        f'model = visionseq.load("{name}")',
        "```",
        "",
        "## Training",
        "",
        *(f"- {key}: {value}" for key, value in facts.items()),
        "",
    ]
    if numbers:
        lines += ["## Numbers", "", *(f"- {key}: {value:.5g}" for key, value in numbers.items()), ""]
    return "\n".join(lines)
