"""Which layout of reflow pairs a place holds, and the writer of a layout."""

from pathlib import Path
from typing import Any, Literal

from visionseq.data.pairs.dataset import PairDataset, PairWriter
from visionseq.data.pairs.shards import PairShards, PairShardWriter
from visionseq.data.pairs.zip_layout import PairFolder, PairZip
from visionseq.data.pairs.zip_writer import PairZipWriter
from visionseq.errors import ConfigError, DataError


def open_pairs(path: str | Path, in_memory: bool | None = None) -> PairDataset:
    """Pairs of any layout: a folder with z.zip and samples.zip, one with z/ and samples/, one zip, or shards.

    Raises `DataError` where all of these are missing.
    """
    path = Path(path)
    if path.suffix == ".zip" or (path / "z.zip").exists():
        return PairZip(path)
    if (path / "z").is_dir():
        return PairFolder(path)
    if path.suffix == ".safetensors" or any(path.glob("*.safetensors")):
        return PairShards(path, in_memory)
    if (path / "parts").is_dir():
        raise DataError(f"{path}: the generation of these pairs is unfinished; run it again to the end")
    raise DataError(f"{path}: no pairs: expected z.zip and samples.zip, z/ and samples/, or .safetensors shards")


def open_pair_writer(
    folder: str | Path,
    layout: Literal["shards", "zip"] = "shards",
    preprocessing: dict[str, Any] | None = None,
    recipe: dict[str, Any] | None = None,
) -> PairWriter:
    """A resumable writer: `shards` load fastest, `zip` is the layout of the official code."""
    writers = {"shards": PairShardWriter, "zip": PairZipWriter}
    if layout not in writers:
        raise ConfigError(f"layout: {layout!r}, expected one of {sorted(writers)}")
    return writers[layout](folder, preprocessing, recipe)
