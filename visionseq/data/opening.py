"""A data set from its name or its path, for commands that take one word for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

from visionseq.data.images import ImageDataset
from visionseq.data.pairs.dataset import PairDataset
from visionseq.data.pairs.opening import open_pairs
from visionseq.errors import ConfigError, DataError

BUILT_IN = ("digits", "fashion_mnist")

Part = TypeVar("Part", bound=str)
DIGITS_PARTS: tuple[Literal["all", "train", "test"], ...] = ("all", "train", "test")
FASHION_MNIST_PARTS: tuple[Literal["train", "test"], ...] = ("train", "test")


def open_data(name: str, size: int = 64, channels: int = 3, split: str | None = None) -> ImageDataset | PairDataset:
    """Open `digits`, `fashion_mnist`, a folder of images, WebDataset shards, latents, or reflow pairs.

    `size` and `channels` are for encoded images, `split` for the built-in sets. Raises `DataError` for
    any other name.
    """
    if name in BUILT_IN:
        return _built_in(name, split)
    path = Path(name)
    if not path.exists():
        raise DataError(f"{name}: no such file or folder, and none of the built-in sets {', '.join(BUILT_IN)}")
    if _holds_pairs(path):
        return open_pairs(path)
    if path.suffix == ".safetensors" or _any(path, "*.safetensors"):
        from visionseq.data.latents import LatentShards

        return LatentShards(path)
    if path.suffix == ".tar" or _any(path, "*.tar"):
        from visionseq.data.webdataset import WebDatasetImages

        return WebDatasetImages(path, size, channels)
    if _any(path, "*-idx3-ubyte*"):
        from visionseq.data.fashion_mnist import FashionMNIST

        return FashionMNIST(_part(split or "train", FASHION_MNIST_PARTS, name), root=path)
    if path.is_dir():
        from visionseq.data.image_folder import ImageFolder

        return ImageFolder(path, size, channels)
    raise DataError(f"{name}: expected a folder, a .zip of pairs, .tar shards or .safetensors shards")


def _built_in(name: str, split: str | None) -> ImageDataset:
    from visionseq.data.digits import Digits
    from visionseq.data.fashion_mnist import FashionMNIST

    if name == "digits":
        return Digits(_part(split or "all", DIGITS_PARTS, name))
    return FashionMNIST(_part(split or "train", FASHION_MNIST_PARTS, name))


def _part(split: str, parts: Sequence[Part], name: str) -> Part:
    """The part of a set that `split` names; `ConfigError` lists the parts that exist."""
    for part in parts:
        if part == split:
            return part
    raise ConfigError(f"split: {split!r}, {name} has {', '.join(parts)}")


def _holds_pairs(path: Path) -> bool:
    if path.suffix == ".zip" or (path / "z.zip").exists() or (path / "z").is_dir() or (path / "parts").is_dir():
        return True
    return path.name.startswith("pairs-") or _any(path, "pairs-*.safetensors")


def _any(path: Path, pattern: str) -> bool:
    return path.is_dir() and next(path.glob(pattern), None) is not None
