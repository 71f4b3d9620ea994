"""The official configurations, by their official names: the files of `configs/lion/`, read when asked for."""

from pathlib import Path
from typing import Any

import yaml

from visionseq.errors import ConfigError
from visionseq.places import shipped_folder


def preset_names() -> list[str]:
    """Names of the official configurations that are shipped, sorted."""
    return sorted(path.stem for path in _folder().glob("*.yaml") if _is_official(path.stem))


def preset(name: str) -> dict[str, Any]:
    """Plain values of the `LionDetector` of an official configuration; `ConfigError` for an unknown name."""
    path = _folder() / f"{name}.yaml"
    if not _is_official(name) or not path.is_file():
        raise ConfigError(f"lion: preset {name!r}, expected one of {', '.join(preset_names())}")
    return yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["init_args"]["detector"]


def _is_official(name: str) -> bool:
    return "_with_lion_" in name or name.startswith("lion_")


def _folder() -> Path:
    return shipped_folder("configs") / "lion"
