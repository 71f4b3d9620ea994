"""The 1,797 handwritten digits that come with scikit-learn: 8x8, real scans (UCI, Alpaydin and Kaynak 1998)."""

from typing import Literal

import numpy as np
import torch

from visionseq.data.images import MemoryImages
from visionseq.data.seeding import seed_of
from visionseq.errors import import_extra

_TEST_SHARE = 5  # one digit in five is held out
_SPLIT_SEED = seed_of(1797)


class Digits(MemoryImages):
    """Digits as float32 [1, 8, 8], x/8 - 1 exactly.

    Args:
        split: `all` (1,797); `train` and `test` are a fixed division of it (1,438 and 359) for classifiers.

    Raises `ConfigError` where scikit-learn is missing.
    """

    def __init__(self, split: Literal["all", "train", "test"] = "all"):
        raw = import_extra("sklearn.datasets", "images").load_digits()
        chosen = _split(len(raw.target), split)
        images = torch.from_numpy(raw.images[chosen]).float().div_(8).sub_(1).unsqueeze(1)
        super().__init__(images, torch.from_numpy(raw.target[chosen]).long(), [str(name) for name in raw.target_names])


def _split(n: int, split: str) -> np.ndarray:
    held_out = np.random.default_rng(_SPLIT_SEED).permutation(n)[: n // _TEST_SHARE]
    if split == "all":
        return np.arange(n)
    return np.sort(held_out) if split == "test" else np.setdiff1d(np.arange(n), held_out)
