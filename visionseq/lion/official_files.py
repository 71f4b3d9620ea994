"""Official configuration files as a checkout has them: YAML that names a base file for the data.

A section with `_BASE_CONFIG_: cfgs/dataset_configs/x.yaml` holds what that file holds, and its own values replace or
extend it, section by section; lists are replaced. The path is relative to the checkout's folder tools/ as a rule, so it
is searched from the configuration's folder upwards.

`ConfigError` names the file that is missing, damaged or refers to itself.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from visionseq.errors import ConfigError

BASE = "_BASE_CONFIG_"
TOOLS = "tools"
MOST_BYTES = 200_000  # official files have some 10,000
MOST_ALIASES = 10  # aliases of aliases can make few bytes many values
MOST_VALUES = 100_000
EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")  # 1e-5 is text in YAML 1.1


def read_config(path: Path) -> dict[str, Any]:
    """The values of a configuration file, with those of its base files filled in."""
    return _read(path, ())


def _read(path: Path, readers: tuple[Path, ...]) -> dict[str, Any]:
    """The values of a file that `readers`, from the first to the last, refer to."""
    path = path.resolve()
    if path in readers:
        raise ConfigError(f"{readers[-1]}: {BASE} leads back to {path}")
    values = _load(path)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: {type(values).__name__}, expected names and values")
    if sum(1 for _ in _walk(values)) > MOST_VALUES:
        raise ConfigError(f"{path}: more than {MOST_VALUES:,} values, expected a configuration")
    return _filled(values, path, (*readers, path))


def _load(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ConfigError(f"{path}: {size:,} bytes, expected a configuration of at most {MOST_BYTES:,}")
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            return json.loads(text)
        if sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)) > MOST_ALIASES:
            raise ConfigError(f"{path}: more than {MOST_ALIASES} aliases (*name), expected a configuration")
        return yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: no readable YAML or JSON: {error}") from error


def _filled(section: Mapping[str, Any], path: Path, readers: tuple[Path, ...]) -> dict[str, Any]:
    """A section with its base, and those in it with theirs."""
    base: dict[str, Any] = {}
    if BASE in section:
        base = _read(_base_file(section[BASE], path), readers)
    values = {name: _value(value, path, readers) for name, value in section.items() if name != BASE}
    return _merged(base, values)


def _value(value: Any, path: Path, readers: tuple[Path, ...]) -> Any:
    if isinstance(value, Mapping):
        return _filled(value, path, readers)
    if isinstance(value, list):
        return [_value(item, path, readers) for item in value]
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value


def _merged(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`base` with `values` in it; sections on both sides are merged, all else is replaced."""
    merged = dict(base)
    for name, value in values.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both else value
    return merged


def _base_file(name: Any, path: Path) -> Path:
    """Where the base file lies that the configuration at `path` names."""
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{path}: {BASE} {name!r}, expected a path such as cfgs/dataset_configs/kitti_dataset.yaml")
    for folder in path.parents:
        for place in (folder / name, folder / TOOLS / name):
            if place.is_file():
                return place
    raise ConfigError(
        f"{path}: {BASE} {name} is missing, searched in {path.parent} and the folders above it, and in their "
        f"{TOOLS}/; keep the file in the official checkout, or copy the base file beside it"
    )


def _walk(value: Any) -> Iterator[Any]:
    """The value and all in it; stops beyond `MOST_VALUES`."""
    waiting, count = [value], 0
    while waiting and count <= MOST_VALUES:
        value, count = waiting.pop(), count + 1
        yield value
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
