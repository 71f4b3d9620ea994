"""Noise kept as the state of its generator: 32 bytes for an image of any size (arXiv 2405.20320, official code).

A record is PCG64's `state` and then its `inc`, 16 bytes each, big endian. A numpy Generator in that state draws the
noise: `standard_normal(shape)` in float64, cast to float32.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionseq.data.seeding import seed_of
from visionseq.errors import DataError

RECORD_BYTES = 32


def noise_from_record(record: bytes | np.ndarray, shape: tuple[int, ...], where: str = "noise record") -> Tensor:
    """float32 noise of `shape` from a record; `where` names it in the `DataError` that anything else raises."""
    data = bytes(record)
    if len(data) != RECORD_BYTES:
        raise DataError(f"{where}: {len(data)} bytes, expected {RECORD_BYTES}")
    state, increment = int.from_bytes(data[:16], "big"), int.from_bytes(data[16:], "big")
    if increment % 2 == 0:  # it is odd in every PCG64
        raise DataError(f"{where}: the increment {increment} is even, so this is no state of a PCG64")
    generator = np.random.Generator(np.random.PCG64(0))
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": state, "inc": increment},
        "has_uint32": 0,
        "uinteger": 0,
    }
    return torch.from_numpy(generator.standard_normal(shape).astype(np.float32))


def record_from_state(state: Mapping[str, Any]) -> bytes:
    """The record of `np.random.PCG64().state`."""
    if state.get("bit_generator") != "PCG64":
        raise DataError(f"bit generator {state.get('bit_generator')!r}, expected the state of a PCG64")
    return b"".join(int(state["state"][name]).to_bytes(16, "big") for name in ("state", "inc"))


def record_of(generator: np.random.Generator) -> bytes:
    """The record of a generator in its present state."""
    return record_from_state(generator.bit_generator.state)


def draw_noise(seed: int, start: int, count: int, shape: tuple[int, ...]) -> tuple[np.ndarray, Tensor]:
    """Records uint8 [count, 32] and noise float32 [count, *shape] of the pairs start .. start + count - 1.

    Each pair has a generator of its own, keyed by (seed, index): any range can be drawn again without those before it.
    """
    records = [record_of(np.random.default_rng(seed_of(seed, index))) for index in range(start, start + count)]
    noise = [noise_from_record(record, shape) for record in records]
    packed = np.frombuffer(b"".join(records), dtype=np.uint8).reshape(count, RECORD_BYTES)
    return packed, torch.stack(noise) if noise else torch.empty((0, *shape))


def official_noise(seed: int, shape: tuple[int, ...]) -> Iterator[tuple[bytes, Tensor]]:
    """Records and noise in the order of the official generator: one `default_rng(seed)` draws image after image."""
    generator = np.random.default_rng(seed)
    while True:
        yield record_of(generator), torch.from_numpy(generator.standard_normal(shape).astype(np.float32))
