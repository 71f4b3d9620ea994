"""The model folder of a finished run: averaged and raw weights, config, and a card that says how they came about."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from visionseq.data_check import data_module_of
from visionseq.saving.pretrained import PretrainedModel
from visionseq.training.checkpoint import Checkpoints
from visionseq.training.metrics_file import METRICS, read_metrics
from visionseq.training.run_folder import MODEL, commit
from visionseq.training.trainer_parts import find_callback


def export_model(
    trainer: Trainer,
    task: LightningModule,
    model: PretrainedModel,
    run_dir: Path,
    raw_weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write `run_dir/model`, which `visionseq.load` reads: the model, and the weights of which it has the average."""
    averaged = "their exponential moving average in model.safetensors, the raw ones in model.raw.safetensors"
    facts = _facts(trainer, task) | {"weights": averaged if raw_weights else "as the optimiser left them"}
    card = model_card(model, run_dir, facts, _numbers(run_dir))
    model.save_pretrained(run_dir / MODEL, card=card, raw_weights=raw_weights)


def model_card(model: PretrainedModel, run_dir: Path, facts: dict[str, Any], numbers: dict[str, float]) -> str:
    """README.md of an exported model."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    lines = [
        "---",
        "library_name: visionseq",
        f"tags: [visionseq, {model.room}]",
        "---",
        "",
        f"# {run_dir.name}",
        "",
        f"`{type(model).__name__}` of the room `{model.room}`, {parameters:,} parameters, from a training run.",
        "",
        "```python",
        "import visionseq",
        "",
        f'model = visionseq.load("{run_dir}")',
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


def hardware() -> str:
    """One line about the machine."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"


def _facts(trainer: Trainer, task: LightningModule) -> dict[str, Any]:
    data = data_module_of(trainer)
    dataset = getattr(data, "dataset", None)
    name = f"{type(data).__name__} of {type(dataset).__name__}" if dataset is not None else type(data).__name__
    batch = f"{getattr(data, 'batch_size', '?')} x {trainer.accumulate_grad_batches}"
    checkpoints = find_callback(trainer, Checkpoints)
    seconds = 0.0 if checkpoints is None else checkpoints.seconds
    return {
        "data": name,
        "recipe": f"`{type(task).__name__}`, {trainer.global_step} updates, batch {batch}; config.yaml of the run",
        "seed": getattr(task, "seed", "see config.yaml"),
        "commit": commit(),
        "hardware": f"{hardware()}, {trainer.world_size} process(es), precision {trainer.precision}",
        "wall time": f"{seconds / 60:.1f} minutes",
        "software": f"torch {torch.__version__}, lightning {lightning.__version__}",
        "licence": "that of the data and of the weights that the training started from",
    }


def _numbers(run_dir: Path) -> dict[str, float]:
    """The last value of each column of metrics.csv."""
    path = run_dir / METRICS
    rows = read_metrics(path) if path.is_file() else []
    last = {name: value for row in rows for name, value in row.items()}
    return {name: float(value) for name, value in sorted(last.items()) if name not in ("step", "lr")}
