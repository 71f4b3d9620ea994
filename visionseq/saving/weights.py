"""States of tensors: read without running code, loaded into a module strictly.

A safetensors file is read directly; a `.pth` or `.ckpt` that the user names goes through
`torch.load(weights_only=True)`, after the checksums of its archive were compared. A state that does not match the
module is reported as one table of missing, unexpected and misshapen entries; weights that are not finite are refused.
"""

import json
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from visionseq.errors import CheckpointError, WriteError
from visionseq.files import atomic_path, kind_of
from visionseq.saving.wrapped_names import names_in, plain_name, plain_state

_TABLE_ROWS = 24
_HEADER_BYTES = 100_000_000  # the limit of the safetensors format
_KINDS = {"missing": "missing", "unexpected": "unexpected", "shape": "of another shape", "dtype": "of another kind"}
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str | os.PathLike) -> None:
    """Copy `state` into `module`, every entry or none; raises `CheckpointError` with the table of differences.

    Floating tensors of another width are converted (float16 files load into float32 modules); a floating tensor is
    never put where integers are expected, nor the other way round. What wrappers put into names, in the state or in the
    module, makes no difference. Weights that are not finite are refused.
    """
    names = names_in(module)
    if not state.keys() <= names.keys():
        state = plain_state(state, source, names)
    state = {names.get(name, name): tensor for name, tensor in state.items()}
    check_fit(module, state, source)
    check_finite(module, state, source)
    module.load_state_dict(state, strict=True)


def check_fit(module: nn.Module, state: Mapping[str, Tensor], source: str | os.PathLike) -> None:
    """Compare names, shapes and kinds of `state` with those of `module`; the values are not looked at."""
    expected = module.state_dict()
    rows = [("missing", name, f"expected {_describe(expected[name])}") for name in expected if name not in state]
    rows += [("unexpected", name, f"found {_describe(state[name])}") for name in state if name not in expected]
    for name in (name for name in expected if name in state):
        stored, entry = state[name], expected[name]
        kind = "shape" if stored.shape != entry.shape else "dtype" if _kind_differs(stored, entry) else None
        if kind:
            rows.append((kind, name, f"found {_describe(stored)}, expected {_describe(entry)}"))
    if rows:
        raise CheckpointError(f"{source} does not match {type(module).__name__}: {_table(rows)}")


def check_finite(module: nn.Module, state: Mapping[str, Tensor], source: str | os.PathLike) -> None:
    """Raise `CheckpointError` with the names of weights in `state` that are not finite."""
    broken = not_finite(module, state)
    if broken:
        raise CheckpointError(f"{source} holds weights that are not finite: {shorten(broken)}")


def not_finite(module: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """The names of broken weights: parameters must be finite; buffers may hold infinities, as masks do, but no NaN."""
    parameters = {plain_name(name) for name, _ in module.named_parameters(remove_duplicate=False)}
    return [name for name, tensor in state.items() if not _is_sound(tensor, plain_name(name) not in parameters)]


def shorten(names: Iterable[str], limit: int = 3) -> str:
    """The first few names and the number of the others, for a message."""
    names = list(names)
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def read_safetensors(path: str | os.PathLike) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU; `CheckpointError` for anything else under that name."""
    try:
        return load_file(path, device="cpu")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no intact safetensors file ({error}); found {kind_of(path)}") from error


def read_header(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a safetensors file as meta tensors: names, shapes and dtypes without reading the values.

    A shape is believed only where the file has the bytes for it. Raises `CheckpointError` for any other file.
    """
    # The header holds a JSON object, whose length stands before it.
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_HEADER_BYTES, size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: _meta(name, entry, size - 8 - length) for name, entry in entries.items()}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        RecursionError,
        struct.error,
    ) as error:
        raise CheckpointError(f"{path} is no intact safetensors file ({error}); found {kind_of(path)}") from error


def write_safetensors(path: str | os.PathLike, state: Mapping[str, Tensor]) -> None:
    """Write a state atomically; tensors that share memory are written one by one."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        tensors[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk, in the words of the format's library
            raise WriteError(f"{path} cannot be written: {error}") from error


def read_checkpoint(path: str | os.PathLike, harmless: Sequence[type] = ()) -> Any:
    """The content of a `.pth`, `.pt` or `.ckpt` file by `torch.load(weights_only=True)`; never anything less safe.

    Args:
        path: the file.
        harmless: classes that the file may name besides tensors and plain containers; making one must run no code.

    Raises `CheckpointError` for a damaged file; an archive's checksums, which torch leaves unread, are compared here.
    """
    check_archive(path)
    try:
        with torch.serialization.safe_globals(list(harmless)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except Exception as error:  # a damaged file can make the reader raise anything
        raise CheckpointError(_refusal(path, error)) from error


def check_archive(path: str | os.PathLike) -> None:
    """Raise `CheckpointError` where the content of a zip archive, as torch.save writes it, differs from its checksums.

    Other files carry no checksum and pass. So do archives written under `torch.serialization.set_crc32_options(False)`,
    whose checksums are all zero.
    """
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"PK\x03\x04":
                return
            with zipfile.ZipFile(file) as archive:
                has_checksums = any(entry.CRC for entry in archive.infolist())
                damaged = archive.testzip() if has_checksums else None
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path} is damaged: no readable archive ({error}); found {kind_of(path)}") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: the content of {damaged} does not match its checksum")


def _refusal(path: str | os.PathLike, error: Exception) -> str:
    match = re.search(r"(?:GLOBAL|global:? GLOBAL) ([\w.]+)", str(error))
    if match is None:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return f"{path} cannot be read as a checkpoint ({reason}); found {kind_of(path)}"
    return (
        f"{path} was not loaded: it names the Python object `{match[1]}`, and reading it could run code. visionseq "
        "reads only tensors and plain containers. If you trust the file's origin, load it once in a separate process "
        "with the library that wrote it, save its state dict alone - torch.save(model.state_dict(), 'state.pth') - "
        "and use that file"
    )


def _meta(name: str, entry: dict[str, Any], data_bytes: int) -> Tensor:
    """The tensor of one entry of the header; ValueError where its bytes are not in the file."""
    dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
    begin, end = entry["data_offsets"]
    claimed = math.prod(shape) * dtype.itemsize
    if any(side < 0 for side in shape) or not 0 <= begin <= end <= data_bytes or end - begin != claimed:
        raise ValueError(f"{name} of shape {shape} needs {claimed} bytes, the file has {data_bytes}")
    return torch.empty(shape, dtype=dtype, device="meta")


def _describe(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _kind_differs(a: Tensor, b: Tensor) -> bool:
    return (a.is_floating_point(), a.is_complex()) != (b.is_floating_point(), b.is_complex())


def _is_sound(tensor: Tensor, infinities: bool) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    tensor = tensor.float() if tensor.element_size() == 1 else tensor  # torch has no such test of 8-bit numbers
    return not bool(tensor.isnan().any() if infinities else ~tensor.isfinite().all())


def _table(rows: list[tuple[str, str, str]]) -> str:
    """Counts of all kinds, then the first entries of each: many missing ones do not hide the unexpected ones."""
    of_kind = {kind: [row for row in rows if row[0] == kind] for kind in _KINDS}
    of_kind = {kind: entries for kind, entries in of_kind.items() if entries}
    limit = _TABLE_ROWS // len(of_kind)
    width = max(len(name) for entries in of_kind.values() for _, name, _ in entries[:limit])

    lines = [", ".join(f"{len(entries)} {_KINDS[kind]}" for kind, entries in of_kind.items())]
    for kind, entries in of_kind.items():
        lines += [f"  {kind:<10}  {name:<{width}}  {detail}" for _, name, detail in entries[:limit]]
        if len(entries) > limit:
            lines.append(f"  ... and {len(entries) - limit} more {_KINDS[kind]}")
    return "\n".join(lines)
