"""Bringing models into an index and onto the Hub: `zoo add` and `zoo push`."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from visionseq.errors import ZooError
from visionseq.files import atomic_path, atomic_write, sha256_of
from visionseq.saving.hub import parse_hub_name, push_folder
from visionseq.saving.model_folder import is_model_folder
from visionseq.zoo.index import FILE_NAMES, FORMAT, Entry, read_index

if TYPE_CHECKING:
    from visionseq.saving.pretrained import PretrainedModel

SHIPPED_BYTES = 8_000_000  # weights in the repository stay below this size
_HEADER = (
    "# The models of the zoo; written by `visionseq zoo add`, its fields are described in visionseq/zoo/index.py.\n"
)


def add(
    source: str | os.PathLike,
    name: str,
    index: str | os.PathLike,
    *,
    description: str | None = None,
    licence: str | None = None,
    numbers: dict[str, float | int | str] | None = None,
    card: str | None = None,
    base_urls: tuple[str, ...] = (),
) -> Entry:
    """Enter a model folder or a run's model into an index file, or renew its entry; hashes and sizes are measured.

    Without `base_urls` the files are copied beside the index and ship with it; otherwise each address, with the file's
    name appended, is a source. `card` replaces the README's text. An argument that is None leaves the description,
    licence or numbers of an earlier entry as they were. Raises `ZooError`.
    """
    # The index, and the texts of an earlier entry of this name.
    index = Path(index)
    content: dict[str, Any] = yaml.safe_load(index.read_bytes()) if index.exists() else {"format": FORMAT}
    models = content.get("models") or {}
    old = models.get(name, {})
    texts = {key: _new_or_old(key, value, old) for key, value in (("description", description), ("licence", licence))}

    # The files, with their hashes.
    with _as_model_folder(source, card) as (folder, model):
        names = [file for file in FILE_NAMES if (folder / file).is_file()]
        files = {file: _file(folder / file, name, base_urls) for file in names}
        if not base_urls:
            _ship(folder, index.parent / name, names)

    # The new entry among the others, sorted by name.
    entry = {
        "room": model.room,
        "model": type(model).__name__,
        **texts,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "numbers": old.get("numbers", {}) if numbers is None else numbers,
        "files": files,
    }
    _write(index, {**content, "models": dict(sorted({**models, name: entry}.items()))})
    return read_index(index)[name]


def push(
    model: str | os.PathLike,
    repo_id: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str | None = None,
) -> str:
    """Upload a zoo entry, a model folder or a run's model to the Hub; returns the commit's address."""
    repo_id, revision = parse_hub_name(repo_id, revision)
    message = commit_message or f"Add {Path(model).name}"
    with _as_model_folder(model) as (folder, _):
        return push_folder(folder, repo_id, commit_message=message, private=private, token=token, branch=revision)


@contextmanager
def _as_model_folder(source: str | os.PathLike, card: str | None = None) -> "Iterator[tuple[Path, PretrainedModel]]":
    """The model folder `source` itself, or a temporary one with the model of a run or zoo entry, and its model."""
    from visionseq.zoo.loading import load  # needs torch

    model = load(source)
    if is_model_folder(source) and card is None:
        yield Path(source), model
        return
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder, card=card)
        yield Path(folder), model


def _ship(folder: Path, target: Path, names: list[str]) -> None:
    for name in names:
        size = (folder / name).stat().st_size
        if size > SHIPPED_BYTES:
            raise ZooError(
                f"{folder / name} has {size} bytes, at most {SHIPPED_BYTES} ship with the index; give base_urls"
            )
    if folder.resolve() != target.resolve():
        for name in names:
            with atomic_path(target / name) as temporary:
                shutil.copyfile(folder / name, temporary)


def _file(path: Path, name: str, base_urls: tuple[str, ...]) -> dict[str, Any]:
    sources = [f"{base.rstrip('/')}/{path.name}" for base in base_urls] or [f"{name}/{path.name}"]
    return {"sha256": sha256_of(path), "size": path.stat().st_size, "sources": sources}


def _new_or_old(key: str, value: str | None, old: dict[str, Any]) -> str:
    if value is None and key not in old:
        raise ZooError(f"a new entry needs a {key}")
    return old[key] if value is None else value


def _write(index: Path, content: dict[str, Any]) -> None:
    text = _HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    with atomic_write(index, "w") as file:
        file.write(text)
