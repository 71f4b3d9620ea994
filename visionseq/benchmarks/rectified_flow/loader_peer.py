"""The data loader's peers: what one writes with torch.utils.data alone, doing the same work per image."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from visionseq.data.image_data import ImageData
from visionseq.data.image_folder import ImageFolder
from visionseq.data.images import ImageDataset, MemoryImages
from visionseq.data.loader import LoaderOptions

BATCH, MEMORY_IMAGES, FILES, FILE_SIZE = 64, 16_384, 512, 64


def loader_alternatives() -> dict[str, tuple[dict[str, Callable[[], None]], int]]:
    """Name -> ({"visionseq": epoch, "DataLoader": epoch}, images of an epoch); an epoch runs through all batches."""
    pixels = torch.randint(0, 256, (MEMORY_IMAGES, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(0, 10, (MEMORY_IMAGES,))
    folder = _png_folder()
    memory = MemoryImages(pixels, labels, [str(i) for i in range(10)])
    cases: dict[str, tuple[ImageDataset, Any, int]] = {
        "images in memory, 0 workers": (memory, TensorDataset(pixels, labels), 0)
    }
    for workers in (0, 2):
        cases[f"PNG files, {workers} workers"] = (ImageFolder(folder, size=FILE_SIZE), _PngFiles(folder), workers)
    return {name: (_epochs(ours, peer, workers), len(peer)) for name, (ours, peer, workers) in cases.items()}


def _epochs(ours: ImageDataset, peer: Any, workers: int) -> dict[str, Callable[[], None]]:
    """An epoch of ours and one of torch's loader, both as batches of floats in [-1, 1]."""
    stream = iter(ImageData(ours, BATCH, loader=LoaderOptions(num_workers=workers)).train_dataloader())
    loader = DataLoader(peer, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)

    def epoch_of_ours() -> None:
        for _ in range(len(peer) // BATCH):
            next(stream)

    def epoch_of_peer() -> None:
        for image, _label in loader:
            if image.dtype == torch.uint8:
                image.float().div_(127.5).sub_(1)

    return {"visionseq": epoch_of_ours, "DataLoader": epoch_of_peer}


class _PngFiles(Dataset):
    """PNG files of class folders -> (image in [-1, 1], class)."""

    def __init__(self, folder: Path):
        self.files = sorted(folder.glob("*/*.png"))
        names = sorted({file.parent.name for file in self.files})
        self.labels = [names.index(file.parent.name) for file in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.files[index]) as image:
            pixels = np.asarray(image.convert("RGB"))
        tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div_(127.5).sub_(1)
        return tensor, self.labels[index]


def _png_folder() -> Path:
    """Temporary class folders of random PNG images, removed at exit."""
    folder = Path(tempfile.mkdtemp(prefix="visionseq-benchmark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    random = np.random.default_rng(0)
    for index in range(FILES):
        path = folder / f"class{index % 8}" / f"{index:04d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (FILE_SIZE, FILE_SIZE, 3), dtype=np.uint8)).save(path)
    return folder
