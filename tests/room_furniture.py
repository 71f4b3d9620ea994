"""What a room brings itself, as files: the list that the contract of the rooms checks; no room is imported."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

FILES = ("__init__.py", "model.py", "task.py", "convert.py", "README.md")
CONVERTER = (
    *("from_official", "to_official", "official_config", "build", "presets", "preprocessing_of", "unwrap", "LICENCE"),
)
TRAIN = re.compile(r"visionseq fit --config (configs/\S+\.yaml)")
INFER = re.compile(r"visionseq (sample|detect|flow|predict) ")


def missing_furniture(root: Path, room: str) -> list[str]:
    """What the room lacks in the checkout `root`, a line for each piece."""
    return [*_of_its_own(root, room), *_in_the_house(root, room)]


def training_configs(root: Path, room: str) -> list[str]:
    """The configurations of the commands in the room's README."""
    return TRAIN.findall(_text(root / "visionseq" / room / "README.md"))


def _of_its_own(root: Path, room: str) -> Iterator[str]:
    folder = root / "visionseq" / room
    yield from (f"visionseq/{room}/{name}" for name in FILES if not (folder / name).is_file())
    names = _names_in(folder / "convert.py")
    yield from (f"{name} in visionseq/{room}/convert.py" for name in CONVERTER if name not in names)
    if "LOADABLE" not in _names_in(folder / "__init__.py"):
        yield f"LOADABLE in visionseq/{room}/__init__.py"
    if not training_configs(root, room):
        yield f"the command `visionseq fit --config ...` in visionseq/{room}/README.md"
    if not INFER.search(_text(folder / "README.md")):
        yield f"a command that uses the model in visionseq/{room}/README.md"


def _in_the_house(root: Path, room: str) -> Iterator[str]:
    configs = [path for path in training_configs(root, room) if not (root / path).is_file()]
    yield from configs
    if "run" not in _names_in(root / "visionseq/claims" / room / "__init__.py"):
        yield f"run in visionseq/claims/{room}/__init__.py"
    if "sections" not in _names_in(root / "visionseq/benchmarks" / room / "__init__.py"):
        yield f"sections in visionseq/benchmarks/{room}/__init__.py"
    if not (root / "docs/rooms" / f"{room}.md").is_file():
        yield f"docs/rooms/{room}.md"
    models = yaml.safe_load(_text(root / "model_zoo/index.yaml") or "{}").get("models", {})
    if room not in {entry["room"] for entry in models.values()}:
        yield f"an entry of the room {room} in model_zoo/index.yaml"
    if f'"{room}"' not in _text(root / "visionseq/zoo/table.py"):
        yield f"{room} in visionseq/zoo/table.py"
    yield from (f"{room} in {name}" for name in ("README.md", "CHANGELOG.md") if f"`{room}`" not in _text(root / name))


def _names_in(path: Path) -> set[str]:
    """Functions and variables at the top of a source, and names that it imports."""
    names: set[str] = set()
    for node in ast.parse(_text(path)).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
