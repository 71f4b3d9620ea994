"""The files of `visionseq sample`, written as the images come, so that an interrupted run goes on.

Each batch becomes a file of its own in `out/.unfinished/`, complete or absent, beside the settings of the run. At the
end the batches become one npz, and the folder is removed.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from visionseq.cli.npz_stream import Pieces, write_npz
from visionseq.cli.outputs import claim_files, claim_folder
from visionseq.errors import ConfigError
from visionseq.files import atomic_write, write_json

GRID_IMAGES = 64  # the grid shows the first of all samples


class Batch(NamedTuple):
    """uint8 images [n, H, W, C], and their classes int64 [n] or None."""

    images: np.ndarray
    labels: np.ndarray | None


class SampleFiles:
    """The results of a run, and its batches while it is unfinished; a context that locks the folder.

    Args:
        out: folder of the results.
        png: write each image to `out/images/` as well.
        overwrite: replace the results of an earlier run.

    Raises `ConfigError` where the folder cannot be written, or holds results and `overwrite` is False.
    """

    def __init__(self, out: Path, png: bool, overwrite: bool):
        self.out, self.grid, self.npz = out, out / "grid.png", out / "samples.npz"
        self._png, self._overwrite = png, overwrite
        self._folder = out / ".unfinished"
        self._settings = self._folder / "settings.json"
        unfinished = self._settings.exists()
        claim_files(self.npz, *([] if unfinished else [self.grid, *self._pictures()]), overwrite=overwrite)
        claim_folder(self._folder)
        self._lock = FileLock(self._folder / "lock", timeout=0)

    def __enter__(self) -> "SampleFiles":
        try:
            self._lock.acquire()
        except Timeout as error:
            raise ConfigError(f"{self.out}: another process is drawing images into this folder") from error
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock; without an unfinished run, remove the folders that are empty."""
        self._lock.release()
        if self._settings.exists():
            return
        Path(self._lock.lock_file).unlink(missing_ok=True)
        for folder in (self._folder, self.out):
            with suppress(OSError):
                folder.rmdir()

    def begin(self, settings: dict[str, Any]) -> int:
        """The number of batches that an interrupted run with the same settings has written.

        Raises `ConfigError` for an interrupted run with other settings, which `overwrite` discards.
        """
        earlier = self._earlier_settings()
        if earlier == settings:
            return len(self._batch_files())
        if earlier is not None and not self._overwrite:
            changes = [
                f"{name} {earlier.get(name)} -> {value}"
                for name, value in settings.items()
                if earlier.get(name) != value
            ]
            raise ConfigError(
                f"{self.out} holds an unfinished run with other settings ({', '.join(changes)}); "
                "repeat it with the same settings, or discard it with --overwrite"
            )
        for file in (*self._batch_files(), *self._pictures(), self.grid, self.npz):
            file.unlink(missing_ok=True)
        write_json(self._settings, settings)
        return 0

    def add(self, batch: Batch, number: int, first: int) -> None:
        """Keep batch `number`, whose images have the numbers from `first` on."""
        if self._png:
            self._write_pictures(batch.images, first)
        with atomic_write(self._folder / f"{number:06d}.npz") as file:
            if batch.labels is None:
                np.savez(file, images=batch.images)
            else:
                np.savez(file, images=batch.images, labels=batch.labels)

    def finish(self) -> None:
        """Write the grid and the npz, then remove the batches."""
        first = next(self._batches())
        count = sum(len(batch.images) for batch in self._batches())
        shape = (count, *first.images.shape[1:])
        arrays = {"arr_0": Pieces(first.images.dtype, shape, (batch.images for batch in self._batches()))}
        if first.labels is not None:
            labels = (batch.labels for batch in self._batches() if batch.labels is not None)
            arrays["arr_1"] = Pieces(first.labels.dtype, (count,), labels)
        self._write_grid()
        write_npz(self.npz, arrays)

        for file in (*self._batch_files(), self._settings):
            file.unlink()

    def _earlier_settings(self) -> dict[str, Any] | None:
        if not self._settings.exists():
            return None
        try:
            return dict(json.loads(self._settings.read_text()))
        except (ValueError, TypeError):
            return {}

    def _batch_files(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.npz"))

    def _batches(self) -> Iterator[Batch]:
        for path in self._batch_files():
            with np.load(path, allow_pickle=False) as arrays:
                yield Batch(arrays["images"], arrays.get("labels"))

    def _pictures(self) -> list[Path]:
        """The files of `out/images/` that an earlier run has written."""
        folder = self.out / "images"
        files = folder.iterdir() if folder.is_dir() else ()
        return sorted(path for path in files if re.fullmatch(r"\d{6,}\.png", path.name))

    def _write_pictures(self, images: np.ndarray, first: int) -> None:
        import torch

        from visionseq.viz import save_png, to_pil

        for number, picture in enumerate(to_pil(torch.from_numpy(images).permute(0, 3, 1, 2)), first):
            save_png(picture, self.out / "images" / f"{number:06d}.png")

    def _write_grid(self) -> None:
        import torch

        from visionseq.viz import image_grid, save_png

        images: list[np.ndarray] = []
        for batch in self._batches():
            images.extend(batch.images[: GRID_IMAGES - len(images)])
            if len(images) == GRID_IMAGES:
                break
        save_png(image_grid(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)), self.grid)
