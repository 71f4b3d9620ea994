"""A model on disk: `model.safetensors`, `config.json` and `README.md` (the card) in one folder, as huggingface_hub's
users know it. The folder of a run has a second set of weights, `model.raw.safetensors`: those that the optimiser worked
on, where `model.safetensors` holds their average.

`config.json` holds `{"library_name": "visionseq", "format": 1, "room", "model", "config", "preprocessing"}`: two names
of an explicit table and plain values, never a Python path.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from visionseq.errors import CheckpointError, ConfigError
from visionseq.files import atomic_write

WEIGHTS, RAW_WEIGHTS, CONFIG, CARD = "model.safetensors", "model.raw.safetensors", "config.json", "README.md"
WeightsName = Literal["ema", "raw"]
FORMAT = 1
_CONFIG_BYTES = 1_000_000


@dataclass(frozen=True)
class ModelDescription:
    """A model's description in a folder or checkpoint: names of room and class, constructor values, preprocessing."""

    room: str
    model: str
    config: dict[str, Any]
    preprocessing: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"library_name": "visionseq", "format": FORMAT, **asdict(self)}


def is_model_folder(path: str | os.PathLike) -> bool:
    """True where `path` is a folder with a config.json."""
    return (Path(path) / CONFIG).is_file()


def weights_file(folder: str | os.PathLike, weights: WeightsName = "ema") -> Path:
    """The file of a model folder with the averaged or the raw weights.

    Raises `CheckpointError` for raw weights that the folder does not have, `ConfigError` for another name.
    """
    if weights not in ("ema", "raw"):
        raise ConfigError(f"weights: {weights!r}, expected 'ema' or 'raw'")
    path = Path(folder) / (WEIGHTS if weights == "ema" else RAW_WEIGHTS)
    if weights == "raw" and not path.is_file():
        raise CheckpointError(f"{folder} has one set of weights, in {WEIGHTS}; {RAW_WEIGHTS} is missing")
    return path


def read_description(folder: str | os.PathLike) -> ModelDescription:
    """Read a model folder's config.json; raises `CheckpointError` where it is missing or not of visionseq's format."""
    path = Path(folder) / CONFIG
    try:
        if path.stat().st_size > _CONFIG_BYTES:
            raise CheckpointError(f"{path} has {path.stat().st_size} bytes, expected at most {_CONFIG_BYTES}")
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no model folder: it lacks {CONFIG}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no readable JSON file: {error}") from error
    return parse_description(value, path)


def parse_description(value: Any, source: str | os.PathLike) -> ModelDescription:
    """Check the description of a model in a config.json or a checkpoint; errors begin with `source`."""
    if not isinstance(value, dict):
        raise CheckpointError(f"{source}: expected an object with `room` and `model`, found {type(value).__name__}")
    if value.get("format") != FORMAT:
        raise CheckpointError(
            f"{source}: found format {value.get('format')!r}, expected {FORMAT} (a file written by visionseq's "
            "save_pretrained or its trainer)"
        )
    for name, kind in (("room", str), ("model", str), ("config", dict), ("preprocessing", dict)):
        entry = value.get(name, {} if name == "preprocessing" else None)
        if not isinstance(entry, kind):
            raise CheckpointError(f"{source}: `{name}` is {entry!r:.80}, expected {kind.__name__}")
    return ModelDescription(value["room"], value["model"], value["config"], value.get("preprocessing", {}))


def write_description(folder: str | os.PathLike, description: ModelDescription) -> None:
    """Write config.json; raises `ConfigError` for values that are not plain JSON."""
    try:
        text = json.dumps(description.to_json(), indent=2)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the config of {description.model} is not plain JSON: {error}") from error
    with atomic_write(Path(folder) / CONFIG, "w") as file:
        file.write(text + "\n")
