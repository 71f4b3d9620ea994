"""Images of a Hugging Face data set, by name on the Hub or from a folder on disk (needs the package `datasets`)."""

import os
from pathlib import Path
from typing import Any

import torch

from visionseq.data.decode import MAX_BYTES
from visionseq.data.encoded import EncodedImages
from visionseq.errors import ConfigError, DataError, import_extra


class HuggingFaceImages(EncodedImages):
    """Images of a data set with an image column; the rows are memory-mapped and opened by each worker for itself.

    Args:
        path: name on the Hub, a folder written by `save_to_disk`, or an already loaded `datasets.Dataset`.
        size: height and width after the centre crop.
        channels: 1 or 3.
        split: which split.
        name: configuration of the data set, where it has several.
        image_column: column with the images; None: the only one that holds images.
        label_column: column with the classes; None: the only class column, where there is one.
        revision: branch, tag or commit on the Hub.
        cache_dir: cache of `datasets`.
        token: access token of the Hub.
        skip_corrupt: decode every image once now and leave out those that fail.

    Raises `ConfigError` for missing or ambiguous columns, `DataError` when a damaged image is taken.
    """

    def __init__(
        self,
        path: Any,
        size: int,
        channels: int = 3,
        split: str = "train",
        name: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        revision: str | None = None,
        cache_dir: str | None = None,
        token: str | None = None,
        skip_corrupt: bool = False,
    ):
        # The rows: opened by name or path, or loaded already.
        datasets = import_extra("datasets", "huggingface")
        if isinstance(path, str | os.PathLike):
            rows = _load(datasets, str(path), split, name, revision, cache_dir, token)
        else:
            rows = path

        # The columns of images and classes.
        image_column = _column(rows, image_column, "image_column", datasets.Image)
        if image_column is None:
            raise ConfigError(f"image_column: {path} has no image column, its columns are {sorted(rows.features)}")
        label_column = _column(rows, label_column, "label_column", datasets.ClassLabel)
        labels, class_names = None, []
        if label_column is not None:
            labels = torch.tensor(rows[label_column], dtype=torch.int64)
            class_names = list(getattr(rows.features[label_column], "names", None) or [])

        # Images stay encoded until they are taken.
        self._rows = rows.select_columns([image_column]).cast_column(image_column, datasets.Image(decode=False))
        self._column, self._name = image_column, str(path) if isinstance(path, str | os.PathLike) else "data set"
        super().__init__(size, channels, labels, class_names, skip_corrupt)

    def file_count(self) -> int:
        return len(self._rows)

    def read(self, number: int) -> tuple[bytes, str]:
        where = f"{self._name}, row {number}"
        cell = self._rows[number][self._column]
        if cell is None or (cell["bytes"] is None and cell["path"] is None):
            raise DataError(f"{where}: no image in column {self._column!r}")
        if cell["bytes"] is not None:
            return cell["bytes"], where
        path = Path(cell["path"])
        try:
            if path.stat().st_size > MAX_BYTES:
                raise DataError(f"{where}, {path}: more than {MAX_BYTES} bytes")
            return path.read_bytes(), f"{where}, {path}"
        except OSError as error:
            raise DataError(f"{where}, {path}: not readable: {error.strerror}") from error


def _load(datasets: Any, path: str, split: str, name: str | None, revision: str | None, cache: str | None, token: Any):
    if not hasattr(datasets, "load_dataset"):  # a folder named `datasets` on the path answers the import as well
        raise ConfigError("`import datasets` finds another package than Hugging Face's; `pip install datasets`")
    try:
        if (Path(path) / "dataset_info.json").is_file() or (Path(path) / "dataset_dict.json").is_file():
            rows = datasets.load_from_disk(path)
            return rows[split] if isinstance(rows, datasets.DatasetDict) else rows
        return datasets.load_dataset(path, name, split=split, revision=revision, cache_dir=cache, token=token)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}, split {split!r}: {error}") from error


def _column(rows: Any, name: str | None, argument: str, kind: type) -> str | None:
    """The column `name`, or without a name the only column of a kind; None where no column is of that kind."""
    if name is not None:
        if name not in rows.features:
            raise ConfigError(f"{argument}: no column {name!r}, the columns are {sorted(rows.features)}")
        return name
    columns = [column for column, feature in rows.features.items() if isinstance(feature, kind)]
    if len(columns) > 1:
        raise ConfigError(f"{argument}: name one of the columns {columns}")
    return columns[0] if columns else None
