"""An npz whose arrays come in pieces: no array is ever in memory as a whole."""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visionseq.files import atomic_write


class Pieces(NamedTuple):
    """An array as consecutive pieces along its first axis: dtype and shape of the whole, and the pieces."""

    dtype: np.dtype
    shape: tuple[int, ...]
    pieces: Iterable[np.ndarray]


def write_npz(path: Path, arrays: Mapping[str, Pieces]) -> None:
    """Write named arrays as `np.savez` does, atomically."""
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            header = {"descr": np.dtype(array.dtype).str, "fortran_order": False, "shape": array.shape}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                for piece in array.pieces:
                    member.write(np.ascontiguousarray(piece, array.dtype).tobytes())
