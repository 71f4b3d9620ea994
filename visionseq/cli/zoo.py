"""`visionseq zoo`: list, describe, fetch, check, enter and publish models."""

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from visionseq.cli.outputs import claim_files
from visionseq.cli.terminal import say
from visionseq.errors import ConfigError, ZooError
from visionseq.zoo.index import FILE_NAMES, INDEX_FILE, Conversion, Entry, Index, index_files, read_index


def list_(pattern: str = "*", *, index: Path | None = None) -> None:
    """List the models of the zoo.

    Args:
        pattern: Shell pattern of the names to show.
        index: Index file to read instead of the shipped one.

    Examples:
        visionseq zoo list
        visionseq zoo list 'rf-*'
    """
    models = _read(index)
    entries = [models[name] for name in models.names(pattern)]
    conversions = [conversion for name, conversion in sorted(models.conversions.items()) if fnmatchcase(name, pattern)]
    if not entries and not conversions and pattern != "*":
        raise ZooError(f"no model matches {pattern!r} in {', '.join(map(str, [index] if index else index_files()))}")
    rows = [(e.name, e.room, f"{e.parameters:,}", _megabytes(e.size), e.licence) for e in entries]
    rows += [(c.name, c.room, f"{c.parameters:,}", "convert", c.licence) for c in conversions]
    _print_table([("name", "room", "parameters", "size", "licence"), *rows])
    if conversions:
        say("convert: official weights; `visionseq zoo info NAME` shows how to get them")


def info(name: str, *, index: Path | None = None) -> None:
    """Show a model's entry in the index, and where its files are.

    Args:
        name: Name in the zoo.
        index: Index file to read instead of the shipped one.

    Examples:
        visionseq zoo info rf-digits-2rf-pp
    """
    from visionseq.zoo.store import local_model_folder

    models = _read(index)
    if name in models.conversions:
        _print_table(_conversion_rows(models.conversions[name]))
        return

    # The model, its numbers, and each of its files with the places that it comes from.
    entry = models[name]
    rows = [
        ("name", entry.name),
        ("what", entry.description),
        ("model", f"{entry.room}/{entry.model}"),
        ("parameters", f"{entry.parameters:,}"),
        ("licence", entry.licence),
        *((f"  {label}", str(number)) for label, number in entry.numbers.items()),
        ("here", str(local_model_folder(entry) or f"not yet: visionseq zoo download {entry.name}")),
    ]
    for file in entry.files.values():
        rows += [(file.name, f"{_megabytes(file.size)}, sha256 {file.sha256}"), *(("  from", s) for s in file.sources)]
    _print_table(rows)


def download(
    name: str,
    *,
    out: Path | None = None,
    cache_dir: Path | None = None,
    force: bool = False,
    overwrite: bool = False,
    token: str | None = None,
    index: Path | None = None,
) -> None:
    """Fetch a model's files, check their hashes, and print the folder that holds them.

    Args:
        name: Name in the zoo, or hf://org/repo@revision.
        out: Folder to put the files in, instead of the cache.
        cache_dir: Cache to use instead of VISIONSEQ_CACHE (for hf://: instead of the Hub's).
        force: Fetch files again that are here already.
        overwrite: Replace other files of the same names in `out`.
        token: Access token of the Hub.
        index: Index file to read instead of the shipped one.

    Examples:
        visionseq zoo download rf-fashion-2rf-pp
        visionseq zoo download rf-fashion-2rf-pp --out models/fashion
        visionseq zoo download hf://someone/flow@v1.0
    """
    from visionseq.saving.hub import PREFIXES, HubOptions, fetch_model_folder
    from visionseq.zoo.store import fetch_entry, fetch_files

    if name.startswith(PREFIXES):
        say(fetch_model_folder(name, HubOptions(cache_dir=cache_dir, token=token, force_download=force)))
        return
    entry = _read(index)[name]
    if out is not None:
        _refuse_other_files(entry, out, overwrite)
        say(fetch_files(entry, out, token=token, force_download=force))
    else:
        say(fetch_entry(entry, cache_dir=cache_dir, token=token, force_download=force))


def verify(name: str | None = None, *, cache_dir: Path | None = None, index: Path | None = None) -> None:
    """Hash the files that are here and compare them with the index; exit code 1 where one is damaged.

    Args:
        name: Name in the zoo; without it, every model.
        cache_dir: Cache to look in instead of VISIONSEQ_CACHE.
        index: Index file to read instead of the shipped one.

    Examples:
        visionseq zoo verify
        visionseq zoo verify rf-digits-edm
    """
    from visionseq.zoo.store import verify_entry

    models = _read(index)
    entries = [models[name] for name in ([name] if name else models.names())]
    rows = [(entry.name, file, state) for entry in entries for file, state in verify_entry(entry, cache_dir).items()]
    _print_table(rows)
    damaged = [f"{model}/{file}" for model, file, state in rows if state == "damaged"]
    if damaged:
        raise ZooError(f"damaged: {', '.join(damaged)}; `visionseq zoo download --force` fetches a model again")


def path(name: str, *, cache_dir: Path | None = None, index: Path | None = None) -> None:
    """Print the folder that holds a model's files; exit code 1 where they were never fetched.

    Args:
        name: Name in the zoo.
        cache_dir: Cache to look in instead of VISIONSEQ_CACHE.
        index: Index file to read instead of the shipped one.

    Examples:
        ls $(visionseq zoo path rf-digits-edm)
    """
    from visionseq.zoo.store import cached_model_folder, local_model_folder

    entry = _read(index)[name]
    folder = local_model_folder(entry, cache_dir)
    if folder is None:
        raise ZooError(f"{name} was not fetched yet: {cached_model_folder(entry, cache_dir)} does not hold it")
    say(folder)


def push(
    model: str,
    repo_id: str,
    *,
    revision: str | None = None,
    private: bool = False,
    token: str | None = None,
    message: str | None = None,
) -> None:
    """Upload a model to the Hugging Face Hub in one commit: weights, config and card.

    Args:
        model: Name in the zoo, model folder or run folder.
        repo_id: Repository, org/name; it is created where it does not exist.
        revision: Branch to push to.
        private: Make a new repository private.
        token: Access token; default: the one of `hf auth login`.
        message: Commit message.

    Examples:
        visionseq zoo push runs/digits someone/rf-digits --private
    """
    from visionseq.zoo.publish import push as push_model

    # Without the flag the organisation's default decides.
    say(push_model(model, repo_id, revision=revision, private=private or None, token=token, commit_message=message))


def add(
    source: Path,
    *,
    name: str,
    description: str | None = None,
    licence: str | None = None,
    numbers: str | None = None,
    card: Path | None = None,
    base_urls: list[str] | None = None,
    index: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Enter a model folder or a run's model into an index, or renew its entry: hashes and sizes are measured.

    Args:
        source: Model folder, or run folder whose averaged weights are taken.
        name: Name of the entry.
        description: One sentence; needed for a new entry.
        licence: Licence of the weights; needed for a new entry.
        numbers: What was measured, as JSON: names and figures.
        card: File whose text becomes the README.md.
        base_urls: Addresses of folders that serve the files; without them the files are copied beside the index.
        index: Index file to write instead of the shipped one.
        overwrite: Renew an entry, and its files beside the index.

    Examples:
        visionseq zoo add runs/digits --name rf-digits-edm --card card.md --description 'Teacher.' --licence Apache-2.0
        visionseq zoo add out/ --name rf-digits-edm --overwrite --numbers '{"Frechet distance, 35 NFE": 14.4}'
    """
    from visionseq.zoo.publish import add as add_entry

    path = index or index_files()[-1]
    if not overwrite and path.exists() and name in _read(path).entries:
        raise ZooError(f"{path} has the entry {name} already; --overwrite renews it")
    if not base_urls and source.resolve() != (path.parent / name).resolve():
        claim_files(*(path.parent / name / file for file in FILE_NAMES), overwrite=overwrite)
    entry = add_entry(
        source,
        name,
        path,
        description=description,
        licence=licence,
        numbers=_parsed(numbers),
        card=None if card is None else card.read_text(encoding="utf-8"),
        base_urls=tuple(base_urls or ()),
    )
    say(f"{entry.name}: {entry.parameters:,} parameters, {_megabytes(entry.size)}, in {entry.folder / INDEX_FILE}")


COMMANDS = {
    "list": list_,
    "info": info,
    "download": download,
    "verify": verify,
    "path": path,
    "push": push,
    "add": add,
}


def _read(index: Path | None) -> Index:
    return read_index(*([index] if index else []))


def _conversion_rows(conversion: Conversion) -> list[tuple[str, ...]]:
    """The table of a model whose official weights the user converts."""
    return [
        ("name", conversion.name),
        ("what", conversion.description),
        ("parameters", f"{conversion.parameters:,}"),
        ("licence", conversion.licence),
        *((f"  {label}", str(number)) for label, number in conversion.numbers.items()),
        ("from", conversion.page),
        ("then", conversion.command),
    ]


def _refuse_other_files(entry: Entry, out: Path, overwrite: bool) -> None:
    from visionseq.zoo.download import is_intact

    others = [out / file.name for file in entry.files.values() if not is_intact(out / file.name, file)]
    claim_files(*others, overwrite=overwrite)


def _parsed(numbers: str | None) -> dict[str, float | int | str] | None:
    try:
        value = None if numbers is None else json.loads(numbers)
    except ValueError as error:
        raise ConfigError(f"numbers: {numbers!r} is not JSON ({error})") from error
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f'numbers: {numbers!r}, expected names and figures such as {{"accuracy": 0.9}}')
    return value


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        say("  ".join([*cells, row[-1]]).rstrip())
