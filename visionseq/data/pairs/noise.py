"""Noise stored as the state of its generator: 32 bytes instead of the array (official layout of rf++ pairs).

A record is numpy's PCG64 `state` and then `inc`, 16 bytes each, big endian, as they were before the noise was drawn;
the noise is `standard_normal` in float64, cast to float32.
"""

import numpy as np
import torch
from torch import Tensor

from visionseq.errors import DataError

RECORD_BYTES = 32


def noise_from_record(record: bytes, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise of the given shape, float32; `DataError` unless the record has 32 bytes."""
    return draw_noise(_generator(record), shape)


def record_of(generator: np.random.Generator) -> bytes:
    """The 32 bytes from which `noise_from_record` repeats the generator's next draw."""
    state = generator.bit_generator.state["state"]
    return state["state"].to_bytes(16, "big") + state["inc"].to_bytes(16, "big")


def draw_noise(generator: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """The next noise of a generator: float64 normals cast to float32."""
    return torch.from_numpy(generator.standard_normal(shape).astype(np.float32))


def _generator(record: bytes) -> np.random.Generator:
    if len(record) != RECORD_BYTES:
        raise DataError(f"noise record of {len(record)} bytes, expected {RECORD_BYTES} (PCG64 state and increment)")
    bits = np.random.PCG64()
    state = {"state": int.from_bytes(record[:16], "big"), "inc": int.from_bytes(record[16:], "big")}
    bits.state = {"bit_generator": "PCG64", "state": state, "has_uint32": 0, "uinteger": 0}
    return np.random.Generator(bits)
