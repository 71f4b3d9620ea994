"""Fashion-MNIST: 70,000 grey pictures of clothes, 28x28, ten classes (arXiv 1708.07747), read from its idx files."""

import os
from pathlib import Path
from typing import Literal

import torch

from visionseq.data.idx import read_idx
from visionseq.data.images import MemoryImages
from visionseq.errors import DataError, import_extra
from visionseq.places import cache_folder, is_offline, writable_cache

CLASS_NAMES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # Debian package dataset-fashion-mnist
_PREFIX = {"train": "train", "test": "t10k"}


class FashionMNIST(MemoryImages):
    """Fashion-MNIST as [1, 28, 28] in [-1, 1].

    Args:
        split: `train` (60,000) or `test` (10,000).
        root: folder with the idx files, plain or .gz; None looks where the Debian package and `download` put them.
        download: let torchvision fetch the files into `root`, or into the cache, where they are missing.

    Raises `DataError` where the files are missing (saying how to get them) or damaged.
    """

    def __init__(
        self, split: Literal["train", "test"] = "train", root: str | Path | None = None, download: bool = False
    ):
        folder = _folder(_PREFIX[split], root, download)
        images_path = _file(folder, f"{_PREFIX[split]}-images-idx3-ubyte")
        labels_path = _file(folder, f"{_PREFIX[split]}-labels-idx1-ubyte")
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.shape[1:] != (28, 28) or not len(images):
            raise DataError(f"{images_path}: shape {images.shape}, expected (n, 28, 28)")
        if labels.shape != images.shape[:1]:
            raise DataError(f"{labels_path}: shape {labels.shape}, expected ({len(images)},) as in {images_path.name}")
        if labels.max() >= len(CLASS_NAMES):
            raise DataError(f"{labels_path}, index {labels.argmax()}: class {labels.max()}, expected 0 to 9")
        super().__init__(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels).long(), CLASS_NAMES)


def _folder(prefix: str, root: str | Path | None, download: bool) -> Path:
    downloads = cache_folder("fashion_mnist")
    places = [Path(root)] if root is not None else [SYSTEM_FOLDER, downloads]
    # torchvision writes FashionMNIST/raw below the folder that it is given
    places = [place for folder in places for place in (folder, folder / "FashionMNIST" / "raw")]
    for place in places:
        if os.path.exists(_file(place, f"{prefix}-images-idx3-ubyte")):
            return place
    if download:
        return _download(Path(root) if root is not None else writable_cache("fashion_mnist"))
    raise DataError(
        f"Fashion-MNIST: no {prefix}-images-idx3-ubyte[.gz] in {', '.join(map(str, places))}; install the Debian "
        "package dataset-fashion-mnist, give root=FOLDER with the idx files, or download=True to ask torchvision"
    )


def _download(target: Path) -> Path:
    if is_offline():
        raise DataError(f"Fashion-MNIST: not in {target}; VISIONSEQ_OFFLINE or HF_HUB_OFFLINE forbids to fetch it")
    try:
        import_extra("torchvision.datasets", "images").FashionMNIST(str(target), download=True)
    except (OSError, RuntimeError) as error:  # no network, or a file that fails its checksum
        raise DataError(f"Fashion-MNIST: torchvision could not fetch it into {target}: {error}") from error
    return target / "FashionMNIST" / "raw"


def _file(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if os.path.exists(plain) else folder / f"{name}.gz"
