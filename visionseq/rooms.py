"""Rooms, claims and benchmarks, found by the names of their folders.

A room is a folder of the package that holds `model.py` and `task.py`. Shared code finds the functions of a room in its
`convert.py`, in `visionseq.claims.<room>` and in `visionseq.benchmarks.<room>`. Listing imports nothing.
"""

import importlib
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

import visionseq
from visionseq.errors import ConfigError

ROOM_FILES = ("model.py", "task.py")


def room_names() -> list[str]:
    """Names of the rooms, sorted."""
    return _folders_with(ROOM_FILES)


def claim_names() -> list[str]:
    """Names of the claims, sorted: those of rooms, and of shared parts such as the token mixers."""
    return _folders_with(("__init__.py",), "claims")


def benchmark_names() -> list[str]:
    """Names of the benchmarks, sorted: those of rooms, and of shared parts such as the kernels."""
    return _folders_with(("__init__.py",), "benchmarks")


def converter(room: str) -> ModuleType:
    """`visionseq.<room>.convert`; an unknown room raises `ConfigError` with the nearest names."""
    return _module("room", room, room_names(), lambda name: f"visionseq.{name}.convert")


def claim(name: str) -> ModuleType:
    """`visionseq.claims.<name>`, which offers `DATA` and `run`; `ConfigError` for an unknown name."""
    return _module("claim", name, claim_names(), lambda name: f"visionseq.claims.{name}")


def benchmark(name: str) -> ModuleType:
    """`visionseq.benchmarks.<name>`, which offers `sections`; `ConfigError` for an unknown name."""
    return _module("benchmark", name, benchmark_names(), lambda name: f"visionseq.benchmarks.{name}")


def _folders_with(files: Sequence[str], below: str = "") -> list[str]:
    parents = [Path(place) / below for place in visionseq.__path__]
    folders = [folder for parent in parents if parent.is_dir() for folder in parent.iterdir()]
    return sorted({folder.name for folder in folders if all((folder / file).is_file() for file in files)})


def _module(kind: str, name: str, names: Sequence[str], path_of: Callable[[str], str]) -> ModuleType:
    if name not in names:
        close = get_close_matches(name, names, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else f"expected one of {', '.join(names)}"
        raise ConfigError(f"no {kind} is named {name!r}; {hint}")
    path = path_of(name)
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        raise ConfigError(f"the {kind} {name!r} is incomplete: {path} is missing") from error
