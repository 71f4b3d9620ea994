"""Pairs as safetensors shards: `image` uint8 and `noise` float32 [n, C, S, S], `label` int64 [n] where there is one.

The fastest layout to train from; five bytes per value. A shard is named after the pairs in it and appears complete or
not at all, so the names of the files show which pairs are done.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from visionseq.data.batch import PairBatch
from visionseq.data.images import to_float
from visionseq.data.pairs.dataset import PairDataset, PairWriter, read_class_names, refuse_twice
from visionseq.data.shards import TensorShards, write_shard
from visionseq.errors import ConfigError, DataError

_NAME = "pairs-{:09d}-{:09d}.safetensors"
_PATTERN = re.compile(r"pairs-(\d{9})-(\d{9})\.safetensors")


class PairShards(PairDataset):
    """Pairs from shards, in the order of their names.

    Args:
        path: folder of shards, or one shard.
        in_memory: read everything now; None: where it is less than 1 GB.

    Raises `DataError` naming the shard that is damaged or differs from the others in its tensors.
    """

    def __init__(self, path: str | Path, in_memory: bool | None = None):
        expected = {"image": ("U8",), "noise": ("F32",), "label": ("I64",)}
        self._shards = TensorShards(path, expected, optional=("label",), in_memory=in_memory)
        shapes = self._shards.row_shapes
        shape = shapes["image"]
        if len(shape) != 3 or shape[1] != shape[2] or shapes["noise"] != shape or shapes.get("label", ()) != ():
            raise DataError(f"{path}: rows of shape {shapes}, expected image and noise [C, S, S] and one label")
        self.channels, self.size = shape[0], shape[1]
        self.labels = self._shards.column("label") if "label" in self._shards.names else None
        self.class_names = read_class_names(self._shards.paths[0].parent)

    def __len__(self) -> int:
        return len(self._shards)

    def batch(self, indices: np.ndarray) -> PairBatch:
        index = torch.from_numpy(indices)
        image, noise = to_float(self._shards.rows("image", indices)), self._shards.rows("noise", indices)
        return PairBatch(image, noise, None if self.labels is None else self.labels[index], index)


class PairShardWriter(PairWriter):
    """Writes one shard per call."""

    def done(self) -> np.ndarray:
        ranges = [np.arange(start, stop) for start, stop in sorted(self._ranges())]
        return np.concatenate([np.empty(0, dtype=np.int64), *ranges])

    def write(
        self,
        start: int,
        image: Tensor,
        label: Tensor | None = None,
        noise: Tensor | None = None,
        records: np.ndarray | None = None,
    ) -> None:
        if noise is None or noise.shape != image.shape or image.dtype != torch.uint8 or noise.dtype != torch.float32:
            raise ConfigError("shards need uint8 images and float32 noise of the same shape")
        refuse_twice(start, start + len(image), self._ranges())
        tensors = {"image": image, "noise": noise} | ({} if label is None else {"label": label})
        path = self.folder / _NAME.format(start, start + len(image))
        write_shard(path, {name: tensor.cpu() for name, tensor in tensors.items()}, {"format": "visionseq pairs 1"})

    def _ranges(self) -> list[tuple[int, int]]:
        matches = [_PATTERN.fullmatch(path.name) for path in self.folder.glob("pairs-*.safetensors")]
        return [(int(match[1]), int(match[2])) for match in matches if match]
