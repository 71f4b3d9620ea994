"""Safetensors shards: a folder of files that hold the same tensors, rows of all files in the order of their names.

Rows are read through memory maps, or from memory where the shards are small. The library checks a header against the
file before anything is used; shapes and types are checked here.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from visionseq.data.random_access import file_size
from visionseq.errors import DataError
from visionseq.files import atomic_write

_TYPES = {"U8": np.uint8, "I64": np.int64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
MEMORY = 1 << 30  # shards up to this size are read into memory


class TensorShards:
    """Rows of named tensors across shards.

    Args:
        path: a folder of .safetensors files, or one file.
        expected: safetensors type codes that each tensor may have; tensors beyond these are ignored.
        optional: names that may be missing, in all shards alike.
        in_memory: read everything now; None: where it is less than 1 GB.

    Raises `DataError` naming the file whose header is wrong, whose tensors are missing, or whose shapes differ from
    those of the first shard.
    """

    def __init__(
        self,
        path: str | Path,
        expected: Mapping[str, tuple[str, ...]],
        optional: tuple[str, ...] = (),
        in_memory: bool | None = None,
    ):
        self.paths = shard_paths(path)
        self._shards = [_read_header(file, expected, optional) for file in self.paths]
        first = self._shards[0]
        for file, shard in zip(self.paths, self._shards, strict=True):
            if {name: entry.kind for name, entry in shard.items()} != {name: e.kind for name, e in first.items()}:
                raise DataError(f"{file}: tensors {_kinds(shard)}, expected {_kinds(first)} as in {self.paths[0].name}")
        self.names = set(first)
        self.row_shapes = {name: entry.shape[1:] for name, entry in first.items()}
        lengths = [next(iter(shard.values())).shape[0] for shard in self._shards]
        self._ends = np.cumsum(lengths)
        size = sum(entry.size for shard in self._shards for entry in shard.values())
        self._in_memory = size <= MEMORY if in_memory is None else in_memory
        self._whole: dict[str, Tensor] | None = None
        self._maps: dict[tuple[int, str], np.ndarray] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def rows(self, name: str, indices: np.ndarray) -> Tensor:
        """Rows `indices` (int64 [n]) of a tensor, copied: [n, ...]."""
        if self._in_memory:
            return self._memory()[name].index_select(0, torch.from_numpy(indices))
        shards = np.searchsorted(self._ends, indices, side="right")
        entry = self._shards[0][name]
        out = np.empty((len(indices), *entry.shape[1:]), dtype=entry.dtype)
        for shard in np.unique(shards):
            in_shard = shards == shard
            start = self._ends[shard] - self._shards[shard][name].shape[0]
            out[in_shard] = self._map(int(shard), name)[indices[in_shard] - start]
        return _as_torch(out, entry.code)

    def column(self, name: str) -> Tensor:
        """All rows of a tensor, for small ones such as labels."""
        return self.rows(name, np.arange(len(self)))

    def _memory(self) -> dict[str, Tensor]:
        if self._whole is None:
            self._whole = {
                name: torch.cat(
                    [
                        _as_torch(np.array(self._map(shard, name)), self._shards[0][name].code)
                        for shard in range(len(self._shards))
                    ]
                )
                for name in self.names
            }
            self._maps.clear()
        return self._whole

    def _map(self, shard: int, name: str) -> np.ndarray:
        if (shard, name) not in self._maps:
            entry = self._shards[shard][name]
            if entry.size == 0:
                self._maps[shard, name] = np.empty(entry.shape, entry.dtype)
            else:
                self._maps[shard, name] = np.memmap(self.paths[shard], entry.dtype, "r", entry.offset, entry.shape)
        return self._maps[shard, name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}, "_whole": None}


def shard_paths(path: str | Path) -> list[Path]:
    """The .safetensors files of a folder, or the one file; raises `DataError` where none exists."""
    path = Path(path)
    if path.is_file():
        return [path]
    shards = sorted(path.glob("*.safetensors")) if path.is_dir() else []
    if not shards:
        raise DataError(f"{path}: {'no .safetensors shards in this folder' if path.is_dir() else 'no such folder'}")
    return shards


def shard_metadata(path: Path) -> dict[str, str]:
    """The metadata of one shard."""
    try:
        with safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: not a whole safetensors file: {error}") from error


def write_shard(path: str | os.PathLike, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write one shard; it appears complete or not at all."""
    with atomic_write(path) as file:
        file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata))


class _Entry:
    """Where a tensor lies in a shard."""

    def __init__(self, code: str, shape: tuple[int, ...], offset: int):
        self.code, self.shape, self.offset = code, shape, offset
        self.dtype = np.dtype(_TYPES[code])
        self.kind = (code, shape[1:])
        self.size = int(np.prod(shape, dtype=object)) * self.dtype.itemsize


def _read_header(path: Path, expected: Mapping[str, tuple[str, ...]], optional: tuple[str, ...]) -> dict[str, _Entry]:
    # The header, checked against the size of the file.
    try:
        with safe_open(path, "numpy"):  # checks the header, and that the tensors fill the file exactly
            pass
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a whole safetensors file: {error}") from error

    # The expected tensors, all of them with the same number of rows.
    entries = {}
    for name, codes in expected.items():
        if name not in header:
            if name in optional:
                continue
            raise DataError(f"{path}: no tensor {name!r}, it holds {sorted(set(header) - {'__metadata__'})}")
        code, shape = header[name]["dtype"], tuple(header[name]["shape"])
        if code not in codes or not shape:
            raise DataError(f"{path}: {name!r} is {code} of shape {shape}, expected {' or '.join(codes)} with rows")
        entries[name] = _Entry(code, shape, 8 + length + header[name]["data_offsets"][0])
        if entries[name].offset + entries[name].size > file_size(path):
            raise DataError(f"{path}, offset {entries[name].offset}: {name!r} {shape} ends beyond the file")
    rows = {entry.shape[0] for entry in entries.values()}
    if len(rows) != 1 or rows == {0}:
        raise DataError(f"{path}: {_kinds(entries)} with {sorted(rows)} rows, expected one positive number of rows")
    return entries


def _kinds(entries: dict[str, _Entry]) -> str:
    return ", ".join(f"{name} {entry.code}{list(entry.shape[1:])}" for name, entry in sorted(entries.items()))


def _as_torch(rows: np.ndarray, code: str) -> Tensor:
    tensor = torch.from_numpy(rows)
    return tensor.view(torch.bfloat16) if code == "BF16" else tensor
