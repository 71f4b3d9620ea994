"""Feather (Arrow) tables, read by pyarrow once their sizes are known to be honest."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visionseq.data.point_files.arrow_sizes import unpacked_size
from visionseq.data.point_files.cloud import PointCloud, cloud_of
from visionseq.data.point_files.limits import FREE, RATIO, check_unpacked
from visionseq.errors import DataError, import_extra
from visionseq.text_files import name_array


def read_feather(path: Path) -> PointCloud:
    """The numeric columns of a Feather table, as Argoverse 2 keeps its sweeps."""
    return cloud_of(read_columns(path), str(path))


def read_columns(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Columns of numbers as they are, and of texts as str; all columns of numbers where `names` is None.

    Raises `DataError` naming the file where it is damaged, lacks a column, or unpacks to far more than its size.
    """
    feather, pyarrow = import_extra("pyarrow.feather", "lidar"), import_extra("pyarrow", "lidar")
    try:
        data = path.read_bytes()
        check_unpacked(path, unpacked_size(data, max(FREE, RATIO * len(data))), len(data))
        table = feather.read_table(pyarrow.BufferReader(data), columns=None if names is None else list(names))
        table.validate(full=True)
        numbers = {name for name in table.column_names if _is_numeric(pyarrow, table.schema.field(name).type)}
        chosen = [name for name in table.column_names if name in numbers] if names is None else names
        return {
            name: table[name].to_numpy() if name in numbers else _texts(pyarrow, table[name], f"{path}, column {name}")
            for name in chosen
        }
    except (DataError, FileNotFoundError):
        raise
    except struct.error as error:
        raise DataError(f"{path}: not readable as Feather: its metadata point outside of the file") from error
    except Exception as error:  # pyarrow raises its own family and many of Python's, also MemoryError
        raise DataError(f"{path}: not readable as Feather: {error or type(error).__name__}") from error


def _is_numeric(pyarrow: Any, kind: Any) -> bool:
    return pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)


def _texts(pyarrow: Any, column: Any, where: str) -> np.ndarray:
    """str [N] of a column of texts, or of numbers of texts in a dictionary; both are as long as their file allows."""
    types, parts = pyarrow.types, [np.zeros(0, "U1")]
    for chunk in column.chunks:
        texts = chunk.dictionary if types.is_dictionary(chunk.type) else chunk
        if (
            chunk.null_count
            or texts.null_count
            or not (types.is_string(texts.type) or types.is_large_string(texts.type))
        ):
            raise DataError(f"{where}: holds {chunk.type} with {chunk.null_count} missing, expected texts")
        names = name_array(texts.to_pylist(), where)
        parts.append(names if texts is chunk else names[chunk.indices.to_numpy()])
    return np.concatenate(parts)
