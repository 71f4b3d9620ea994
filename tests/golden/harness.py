"""Runs the golden files of a room through the room's handlers.

Files lie in `<folder>/<room>/` for every folder of the path list `VISIONSEQ_GOLDEN`. A room's handlers are the dicts
`HANDLERS` (kind to function) of the modules in `<room>_handlers/`. The kind is the longest one that a file's name
begins with; all else a handler takes from the file's `config`. A file without a handler fails, and so does a file with
a tensor that its handler does not use.
"""

import importlib
import os
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from golden_vector import GoldenVector

HERE = Path(__file__).parent
FOLDERS = [Path(folder) for folder in os.environ.get("VISIONSEQ_GOLDEN", str(HERE)).split(os.pathsep) if folder]

Handler = Callable[[GoldenVector], None]


def golden_test(room: str) -> Callable[[Path | None], None]:
    """A test function with one case for each file of the room."""
    files = sorted(path for folder in FOLDERS for path in (folder / room).glob("*.safetensors"))

    @pytest.mark.parametrize("path", files or [None], ids=_name)
    def test_golden(path: Path | None) -> None:
        assert path, f"no golden file of {room} in {[str(folder) for folder in FOLDERS]}"
        check(GoldenVector(path), handlers_of(room))

    return test_golden


def check(vector: GoldenVector, handlers: Mapping[str, Handler]) -> None:
    """Run the handler of a file; every tensor of the file has to take part."""
    name = vector.path.stem
    kinds = [kind for kind in handlers if name.startswith(kind)]
    assert kinds, f"{name}: no handler of this kind, only {sorted(handlers)}"
    handlers[max(kinds, key=len)](vector)
    assert not vector.unused, f"{name}: the handler neither reads nor compares {sorted(vector.unused)}"


def handlers_of(room: str) -> dict[str, Handler]:
    """All handlers in the modules of `<room>_handlers`."""
    package = importlib.import_module(f"{room}_handlers")
    handlers: dict[str, Handler] = {}
    for module in pkgutil.iter_modules(package.__path__):
        part = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "HANDLERS", {})
        assert not handlers.keys() & part, f"{package.__name__}: two handlers of {sorted(handlers.keys() & part)}"
        handlers |= part
    return handlers


def _name(path: Path | None) -> str:
    return f"{path.parents[1].name}-{path.stem}" if path else "none"
