"""The index of the zoo: its models, the places of their files, and the hashes that the files must have.

    format: 1
    models:
      <name>:
        room, model        two names of visionseq.zoo.table
        description        one sentence
        licence            of the weights
        parameters         their number
        numbers            {what was measured: figure}
        files:
          model.safetensors: {sha256, size, sources: [a path beside the index, https://..., file://..., hf://org/repo@rev/file]}
          config.json, README.md: likewise
    conversions:           official weights that the zoo does not distribute: the user fetches and converts them
      <name>:
        room, preset       arguments of `visionseq convert`
        page               where the authors offer the file, https://...
        description, licence, parameters, numbers  as above

The shipped index lies in model_zoo/; VISIONSEQ_ZOO_INDEX (a path list) puts others before it.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from visionseq.errors import ZooError
from visionseq.places import shipped_folder

FORMAT = 1
INDEX_FILE = "index.yaml"
REQUIRED_FILES = ("model.safetensors", "config.json")
FILE_NAMES = (*REQUIRED_FILES, "README.md")  # nothing else is ever fetched: no format that can run code
SCHEMES = ("https://", "http://", "file://", "hf://")
_MAX_BYTES = 4_000_000
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileEntry:
    """One file of a model: its hash, its size in bytes, and its sources in the order in which they are tried."""

    name: str
    sha256: str
    size: int
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One model of the zoo; `folder` is the index's own, against which relative sources are resolved."""

    name: str
    room: str
    model: str
    description: str
    licence: str
    parameters: int
    numbers: Mapping[str, float | int | str]
    files: Mapping[str, FileEntry]
    folder: Path

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files.values())


@dataclass(frozen=True)
class Conversion:
    """Official weights that the user fetches from the authors' `page` and converts."""

    name: str
    room: str
    preset: str
    page: str
    description: str
    licence: str
    parameters: int
    numbers: Mapping[str, float | int | str]

    @property
    def command(self) -> str:
        """The command that makes a model folder of the file."""
        return f"visionseq convert {self.room} FILE.pth {self.name} --preset {self.preset}"


@dataclass(frozen=True)
class Index:
    """The models of one or several index files, and the official weights to convert, by name."""

    entries: Mapping[str, Entry]
    paths: tuple[Path, ...] = ()
    conversions: Mapping[str, Conversion] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Entry:
        if name in self.conversions:
            conversion = self.conversions[name]
            raise ZooError(
                f"the zoo does not distribute {name}: download it from {conversion.page}, then `{conversion.command}`"
            )
        if name not in self.entries:
            close = get_close_matches(name, self.entries, n=3, cutoff=0.4) or sorted(self.entries)[:8]
            hint = f"; nearest: {', '.join(close)}" if close else "; the index is empty"
            raise ZooError(f"the zoo has no model {name!r}{hint} (looked in {', '.join(map(str, self.paths))})")
        return self.entries[name]

    def names(self, pattern: str = "*") -> list[str]:
        """Names that match a shell pattern, sorted."""
        return sorted(name for name in self.entries if fnmatchcase(name, pattern))


def list_models(pattern: str = "*") -> list[str]:
    """Names in the zoo that match a shell pattern such as `rf-*`."""
    return read_index().names(pattern)


def info(name: str) -> Entry:
    """A model's entry in the index; an unknown name raises `ZooError` with the nearest ones."""
    return read_index()[name]


def index_files() -> list[Path]:
    """The index files that are read; where two have a model of one name, the earlier file counts."""
    extra = os.environ.get("VISIONSEQ_ZOO_INDEX", "")
    return [
        *(Path(path).expanduser() for path in extra.split(os.pathsep) if path),
        shipped_folder("model_zoo") / INDEX_FILE,
    ]


def read_index(*paths: str | os.PathLike) -> Index:
    """Read the given index files, by default the shipped one and those of VISIONSEQ_ZOO_INDEX; raises `ZooError`."""
    files = tuple(map(Path, paths or index_files()))
    entries: dict[str, Entry] = {}
    conversions: dict[str, Conversion] = {}
    for path in files:
        content = _parse(path)
        entries = {**{name: _entry(path, name, value) for name, value in content["models"].items()}, **entries}
        in_file = {name: _conversion(path, name, value) for name, value in content["conversions"].items()}
        conversions = {**in_file, **conversions}
    return Index(entries, files, conversions)


def _parse(path: Path) -> dict[str, dict[Any, Any]]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ZooError(f"{path} has {path.stat().st_size} bytes, expected at most {_MAX_BYTES}")
        content = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ZooError(f"{path} is no readable index: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ZooError(f"{path}: expected `format: {FORMAT}` and a table `models`")
    tables = {key: {} if content.get(key) is None else content[key] for key in ("models", "conversions")}
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise ZooError(f"{path}: {key} is a {type(table).__name__}, expected a table")
    return tables


def _conversion(path: Path, name: Any, value: Any) -> Conversion:
    where = f"{path}, conversion {name!r}"
    _check_names(where, name, value)
    keys = ("room", "preset", "page", "description", "licence")
    strange = sorted(map(str, set(value) - {*keys, "parameters", "numbers"}))
    if strange:
        raise ZooError(f"{where}: unknown {', '.join(strange)}, expected {', '.join(keys)}, parameters, numbers")
    texts = {key: _field(where, value, key, str) for key in keys}
    if not texts["page"].startswith("https://"):
        raise ZooError(f"{where}: page {texts['page']!r}, expected https://...")
    parameters, numbers = _field(where, value, "parameters", int), _numbers(where, value.get("numbers", {}))
    return Conversion(name, **texts, parameters=parameters, numbers=numbers)


def _check_names(where: str, name: Any, value: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ZooError(f"{where}: a name consists of lower-case letters, digits, '.', '_' and '-'")
    if not isinstance(value, dict):
        raise ZooError(f"{where}: expected a table, found {type(value).__name__}")


def _entry(path: Path, name: Any, value: Any) -> Entry:
    where = f"{path}, model {name!r}"
    _check_names(where, name, value)
    fields = {key: _field(where, value, key, str) for key in ("room", "model", "description", "licence")}
    files = _field(where, value, "files", dict)
    missing, strange = set(REQUIRED_FILES) - set(files), set(files) - set(FILE_NAMES)
    if missing or strange:
        problem = f"lacks {', '.join(sorted(missing))}" if missing else f"names {', '.join(map(repr, strange))}"
        raise ZooError(f"{where}: {problem}; a model consists of {', '.join(FILE_NAMES)} and nothing else")
    return Entry(
        name=name,
        parameters=_field(where, value, "parameters", int),
        numbers=_numbers(where, value.get("numbers", {})),
        files={key: _file(f"{where}, {key}", key, file) for key, file in files.items()},
        folder=path.absolute().parent,
        **fields,
    )


def _file(where: str, name: str, value: Any) -> FileEntry:
    if not isinstance(value, dict):
        raise ZooError(f"{where}: expected a table, found {type(value).__name__}")
    sha256, size = _field(where, value, "sha256", str), _field(where, value, "size", int)
    sources = _field(where, value, "sources", list)
    if not _SHA256.fullmatch(sha256):
        raise ZooError(f"{where}: sha256 is {sha256[:80]!r}, expected 64 hexadecimal digits")
    if size < 0 or not sources:
        raise ZooError(f"{where}: expected a size in bytes and at least one source")
    return FileEntry(name, sha256, size, tuple(_source(where, name, source) for source in sources))


def _source(where: str, name: str, source: Any) -> str:
    if not isinstance(source, str):
        raise ZooError(f"{where}: a source is {source!r:.80}, expected a path or an address")
    local = "://" not in source and not source.startswith(("/", "~")) and ".." not in Path(source).parts
    if not local and not source.startswith(SCHEMES):
        raise ZooError(f"{where}: source {source!r}, expected a path below the index or {', '.join(SCHEMES)}")
    suffix = Path(name).suffix
    if not source.partition("?")[0].endswith(suffix):
        raise ZooError(f"{where}: source {source!r} is no {suffix} file; nothing else is fetched")
    return source


def _numbers(where: str, value: Any) -> dict[str, float | int | str]:
    if not isinstance(value, dict) or not all(isinstance(number, str | int | float) for number in value.values()):
        raise ZooError(f"{where}: numbers must be a flat table of figures")
    return {str(key): number for key, number in value.items()}


def _field(where: str, value: Mapping[str, Any], key: str, kind: type) -> Any:
    content = value.get(key)
    if not isinstance(content, kind) or isinstance(content, bool):
        raise ZooError(f"{where}: {key} is {content!r:.80}, expected {kind.__name__}")
    return content
