"""Cached latents of a variational autoencoder, [4, H/8, W/8], already scaled, in safetensors shards.

Encoding a data set once saves the encoder's pass in every epoch. A shard holds `latent` [n, C, h, w] (float32, float16
or bfloat16), optionally `mirrored` (the latents of the mirrored images: mirroring a latent is not the same) and `label`
int64 [n]; its metadata keep the class names and the name of the encoder.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionseq.data.batch import ImageBatch
from visionseq.data.images import ImageDataset
from visionseq.data.names import check_class_names
from visionseq.data.shards import TensorShards, shard_metadata, write_shard
from visionseq.errors import ConfigError, DataError
from visionseq.text_files import parse_json

_FLOATS = ("F32", "F16", "BF16")
_NAME = "latents-{:06d}.safetensors"


class LatentShards(ImageDataset):
    """Latents as float32 [C, h, w].

    Args:
        path: folder of shards, or one shard.
        in_memory: read everything now; None: where it is less than 1 GB.

    Raises `DataError` naming the shard that is damaged or differs from the others in its tensors.
    """

    def __init__(self, path: str | Path, in_memory: bool | None = None):
        expected = {"latent": _FLOATS, "mirrored": _FLOATS, "label": ("I64",)}
        self._shards = TensorShards(path, expected, optional=("mirrored", "label"), in_memory=in_memory)
        shape = self._shards.row_shapes["latent"]
        if len(shape) != 3 or shape[1] != shape[2] or self._shards.row_shapes.get("mirrored", shape) != shape:
            raise DataError(f"{path}: latents {self._shards.row_shapes}, expected [C, S, S] for all")
        if self._shards.row_shapes.get("label", ()) != ():
            raise DataError(f"{path}: label {self._shards.row_shapes['label']}, expected one number per latent")
        self.channels, self.size = shape[0], shape[1]
        self.flippable = "mirrored" in self._shards.names
        self.labels = self._shards.column("label") if "label" in self._shards.names else None
        metadata = shard_metadata(self._shards.paths[0])
        self.encoder = metadata.get("encoder", "")
        where = f"{self._shards.paths[0]}, class_names"
        self.class_names = check_class_names(parse_json(metadata.get("class_names", "[]"), where), where)

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, index: int) -> Tensor:
        return self._shards.rows("latent", np.array([index]))[0].float()

    def batch(self, indices: np.ndarray) -> ImageBatch:
        return self._labelled(self._shards.rows("latent", indices).float(), torch.from_numpy(indices))

    def mirrored(self, image: Tensor, indices: np.ndarray) -> Tensor:
        return self._shards.rows("mirrored", indices).float()

    @property
    def preprocessing(self) -> dict[str, Any]:
        return {**super().preprocessing, "kind": "latent", "encoder": self.encoder}


class LatentWriter:
    """Writes shards of latents one after another; existing shards are kept, so an encoding can resume.

    Args:
        folder: where the shards go.
        class_names: a name per class.
        encoder: which autoencoder and scale made the latents.
        overwrite: remove the shards of the folder first.

    Raises `DataError` where a shard is missing between others, `ConfigError` where one has other class names or comes
    from another encoder.
    """

    def __init__(
        self,
        folder: str | Path,
        class_names: list[str] | None = None,
        encoder: str = "",
        overwrite: bool = False,
    ):
        self.folder = Path(folder)
        self.metadata = {"class_names": json.dumps(class_names or []), "encoder": encoder}
        self.done = 0
        for path in sorted(self.folder.glob("*.safetensors")):
            if overwrite:
                path.unlink()
                continue
            if path.name != _NAME.format(self.done):
                raise DataError(f"{path}: expected {_NAME.format(self.done)} (shards without a gap)")
            self._check_metadata(path)
            self.done += 1

    def write(self, latent: Tensor, label: Tensor | None = None, mirrored: Tensor | None = None) -> None:
        """Append a shard: `latent` and `mirrored` [n, C, h, w] in a float type, `label` int64 [n]."""
        tensors = {"latent": latent, "label": label, "mirrored": mirrored}
        path = self.folder / _NAME.format(self.done)
        write_shard(path, {name: tensor for name, tensor in tensors.items() if tensor is not None}, self.metadata)
        self.done += 1

    def _check_metadata(self, path: Path) -> None:
        earlier = shard_metadata(path)
        for name, value in self.metadata.items():
            if earlier.get(name) != value:
                raise ConfigError(
                    f"{path}: {name} {value[:80]}, the shard was made with {earlier.get(name, 'none')[:80]}; overwrite "
                    "replaces all shards of the folder"
                )
